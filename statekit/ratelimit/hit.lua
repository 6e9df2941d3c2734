-- Decide a call against every limit of every (limiter, key) it concerns: all or nothing, in one run.
--
-- KEYS[i]      the state of one (limiter, key); all in one slot on a cluster
-- ARGV[1]      the time in microseconds, or '' for the server's clock
-- ARGV[1 + i]  what KEYS[i] is held to, numbers parted by blanks:
--              algorithm need take shadow bits shift count window [count window ...]
--                algorithm    log | counter | gcra | fixed
--                need, take   units that must be free, units to charge (0: only look)
--                shadow       1: this limiter's refusal does not stop the others
--                bits, shift  log only: bits of a word that count units; ticks of 2^shift microseconds
--                count, window  units allowed in a span of microseconds
--
-- Returns one string of whole numbers parted by blanks, which clients read faster than an array:
--   1 if admitted else 0; the time; then four for each limit in the order given:
--   units left; microseconds until `need` units are free (0: they are, -1: never);
--   until one more unit is free (0: none is used); until nothing is used any more.

local keys, argv, frozen = KEYS, ARGV, ARGV[1] ~= ''

local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local call, now = redis.call, nil

if frozen then
  now = tonumber(argv[1])
else
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- Milliseconds a key must live so that it outlives `micros`; a clock that a test holds still gets an hour.
local function lifetime(micros)
  return string.format('%.0f', ceil(micros / 1000) + (frozen and 3600000 or 1))
end

-- Whole numbers as text; every digit of them, which tostring would not give.
local function told(reply)
  return string.format(string.rep('%.0f ', #reply), unpack(reply))
end

-- The common case, in a straight line: one sliding log whose windows begin where its header says, or a few
-- entries later, and room in its ring. It answers as the general way below does, in a third of the time;
-- whatever is not common falls through to that before anything is written. The layout is told in log.lua.
local function straight()
  local need, take, shadow, terms = string.match(argv[2], '^log (%d+) (%d+) (%d) %d+ 0 (.+)$')
  local h = need and call('GETRANGE', keys[1], 0, 123) or ''
  if #h < 52 then return end
  local read, pack = struct.unpack, struct.pack
  local _, wide, shift, m, capacity, head, n, newest, total, at = read('>BBBBI4I4I4I8I4', h)
  if shift ~= 0 or now < newest then return end
  need, take = tonumber(need), tonumber(take)
  local unit, split, span = 2 ^ wide, 2 ^ (32 - wide), 2 ^ (64 - wide)
  local start, kept, edges, refused, reply = 28 + 24 * m, 0, '', false, { 1, now }
  for count, window in string.gmatch(terms, '(%d+) (%d+)') do
    if m == 0 or at + 23 > #h then return end
    -- The edge of this window, as it was when the header was written.
    local own, oldest, inside, before
    own, oldest, inside, before, at = read('>I8I8I4I4', h, at)
    count, window, m = tonumber(count), tonumber(window), m - 1
    if own ~= window or inside == 0 or newest + window <= now then return end
    if count >= unit or window > span then return end
    -- Entries that have left since: mostly one a hit. Many are better found by search.
    local tries = 8
    while oldest + window <= now do
      inside, tries = inside - 1, tries - 1
      if tries == 0 then return end
      local from = start + 8 * ((head - inside) % capacity)
      local high, low = read('>I4I4', call('GETRANGE', keys[1], from, from + 7))
      oldest, before = newest - (newest - high * split - floor(low / unit)) % span, low % unit
    end
    -- Where more than the oldest entry must leave first, the wait is found by search.
    local left = count - (total - before) % unit
    if left < 0 or count < need or left < need - 1 then return end
    local oldest_gone, i = oldest + window - now, #reply
    refused = refused or left < need
    reply[i + 1], reply[i + 2], reply[i + 3] = left, left < need and oldest_gone or 0, oldest_gone
    reply[i + 4] = window  -- until it is known which hit is the newest
    edges = edges .. pack('>I8I8I4I4', window, oldest, inside + 1, before)
    kept = max(kept, inside)
  end
  -- Hints that would be left wrong, a ring that is full or mostly dead: for the general way.
  local charged = take > 0 and not refused
  if charged and (m > 0 or kept >= capacity or capacity > 64 and kept * 4 < capacity) then return end
  reply[1] = (refused and shadow == '0') and 0 or 1
  local since, longest = charged and 0 or now - newest, 0
  for i = 3, #reply, 4 do
    if charged then reply[i] = reply[i] - take end
    longest = max(longest, reply[i + 3])
    reply[i + 3] = reply[i + 3] - since
  end
  if not charged then return told(reply) end
  -- One word into the ring, then the header that counts it.
  local slot, low = start + 8 * head, now % span
  call('SETRANGE', keys[1], slot, pack('>I4I4', floor(low / split), low % split * unit + total))
  head, total = (head + 1) % capacity, (total + take) % unit
  h = pack('>BBBBI4I4I4I8I4', 1, wide, 0, (start - 28) / 24, capacity, head, kept + 1, now, total)
  call('SETRANGE', keys[1], 0, h .. edges)
  -- The first hit of each quarter of the window extends the life of the key for all that follow in it.
  if floor(now / longest * 4) ~= floor(newest / longest * 4) then
    call('PEXPIRE', keys[1], lifetime(longest * 1.25))
  end
  return told(reply)
end

local answer = struct and not keys[2] and straight()
if answer then return answer end

-- The general way: any number of keys, any algorithm, any state. Read first what each key is held to.
local specs, needed = {}, {}
for i = 1, #keys do
  local algorithm, rest = string.match(argv[i + 1], '^(%a+) (.+)$')
  local v = {}
  for number in string.gmatch(rest, '%d+') do v[#v + 1] = tonumber(number) end
  local spec = { algorithm = algorithm, need = v[1], take = v[2], shadow = v[3] == 1, bits = v[4],
    shift = v[5], limits = {}, longest = { window = 0 }, highest = 0 }
  for j = 6, #v, 2 do
    local limit = { index = #spec.limits + 1, count = v[j], window = v[j + 1] }
    spec.limits[limit.index] = limit
    spec.highest = max(spec.highest, limit.count)
    if limit.window > spec.longest.window then spec.longest = limit end
  end
  specs[i], needed[algorithm == 'log' and 'log' or 'rows'] = spec, true
end

-- Each algorithm opens a key: it returns a state for each limit, with the units `used` and `wait(target)`,
-- microseconds until no more than `target` are used; and the function that charges units and stores all.
local open = {}
if needed.log then
  -- include log.lua
end
if needed.rows then
  -- include rows.lua
end

-- First look at everything, then charge everything or nothing.
local admitted = 1
for i, key in ipairs(keys) do
  local spec = specs[i]
  spec.states, spec.charge = open[spec.algorithm](key, spec)
  for j, limit in ipairs(spec.limits) do
    limit.wait = spec.need > limit.count and -1 or spec.states[j].wait(limit.count - spec.need)
    spec.refused = spec.refused or limit.wait ~= 0
  end
  if spec.refused and not spec.shadow then admitted = 0 end
end

-- A limiter in shadow that would refuse is not charged either: it counts as if it were in force.
local reply = { admitted, now }
for _, spec in ipairs(specs) do
  if admitted == 1 and spec.take > 0 and not spec.refused then spec.charge(spec.take) end
  for j, limit in ipairs(spec.limits) do
    local state, at = spec.states[j], #reply
    reply[at + 1] = max(0, limit.count - state.used)
    reply[at + 2] = limit.wait
    -- One more unit comes free when one less is used; where a lowered limit is overdrawn, when it no longer is.
    reply[at + 3] = state.wait(max(0, min(state.used, limit.count) - 1))
    reply[at + 4] = state.wait(0)
  end
end
return told(reply)
