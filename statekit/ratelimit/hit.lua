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
-- Returns one string of whole numbers, 8 bytes each, signed, the highest byte first: written and read several
-- times faster than text or an array:
--   1 if admitted else 0; the time; then four for each limit in the order given:
--   units left; microseconds until `need` units are free (0: they are, -1: never);
--   until one more unit is free (0: none is used); until nothing is used any more.

local keys, argv, frozen = KEYS, ARGV, ARGV[1] ~= ''

local call, now = redis.call, nil

if frozen then
  now = tonumber(argv[1])
else
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- The common case first, in a straight line, before any function is made: one sliding log of one limit, whose
-- window begins where its header says, or a few entries later, no units set aside, and room in its ring. It
-- answers as the general way below does, in a quarter of the time; whatever is not common falls through to that
-- before anything is written. The layout is told in log.lua.
local single
if struct and not keys[2] then
  local key, read, pack = keys[1], struct.unpack, struct.pack
  local need, take, shadow, count, window =
    string.match(argv[2], '^log (%S+) (%S+) (%S+) %S+ 0 (%S+) (%S+)$')
  single = need
  local h = need and call('GETRANGE', key, 0, 51) or ''
  if #h == 52 then
    need, take, count, window = tonumber(need), tonumber(take), tonumber(count), tonumber(window)
    local version, wide, shift, m, capacity, head, n, newest, total, own, oldest, inside, before =
      read('>BBBBI4I4I4I8I4I8I8I4I4', h)
    local unit, horizon = 2 ^ wide, now - window
    local split, span = 4294967296 / unit, 18446744073709551616 / unit
    local fits = version == 1 and m == 1 and shift == 0 and own == window and count < unit and window <= span
    if fits and inside > 0 and newest <= now and newest > horizon then
      -- Entries that have left since: mostly one a hit. Many are better found by search.
      local tries = 8
      while oldest <= horizon and tries > 0 do
        inside, tries = inside - 1, tries - 1
        local from = 52 + 8 * ((head - inside) % capacity)
        local high, low = read('>I4I4', call('GETRANGE', key, from, from + 7))
        before = low % unit
        oldest = newest - (newest - high * split - (low - before) / unit) % span
      end
      local left, gone = count - (total - before) % unit, oldest - horizon
      -- Where more than the oldest entry must leave first, the wait is found by search.
      if oldest <= horizon or left < 0 or left < need - 1 or count < need then
        left = nil
      elseif left < need then
        return pack('>I8I8I8I8I8I8', shadow == '0' and 0 or 1, now, left, gone, gone, newest - horizon)
      elseif take == 0 then
        return pack('>I8I8I8I8I8I8', 1, now, left, 0, gone, newest - horizon)
      end
      -- A ring that is full or mostly dead is for the general way.
      if left and inside < capacity and (capacity <= 64 or inside * 4 >= capacity) then
        -- One word into the ring, then what changes of the header that counts it.
        local high, low, kept = now % span, now % split, inside + 1
        call('SETRANGE', key, 52 + 8 * head, pack('>I4I4', (high - low) / split, low * unit + total))
        call('SETRANGE', key, 8, pack('>I4I4I8I4I8I8I4I4', (head + 1) % capacity, kept, now,
          (total + take) % unit, window, oldest, kept, before))
        -- The first hit of each quarter of the window extends the life of the key for all that follow in it.
        if math.floor(now / window * 4) ~= math.floor(newest / window * 4) then
          local life = math.ceil(window * 1.25 / 1000) + (frozen and 3600000 or 1)
          call('PEXPIRE', key, string.format('%.0f', life))
        end
        return pack('>I8I8I8I8I8I8', 1, now, left - take, 0, gone, window)
      end
    end
  end
end

-- include numbers.lua

-- Two more common cases: GCRA for one caller, and several windows or callers of sliding logs.
if struct and not single then
  local need, take, shadow, terms = string.match(argv[2], '^gcra (%d+) (%d+) (%d) %d+ %d+ (.+)$')
  if need and not keys[2] then
    -- include straight_gcra.lua
    local answer = straight_gcra(keys[1], need, take, shadow, terms)
    if answer then return answer end
  elseif not need then
    -- include straight.lua
    local answer = straight()
    if answer then return answer end
  end
end

-- The general way: any number of keys, any algorithm, any state. Read first what each key is held to.
local texts = {}
for i = 1, #keys do texts[i] = argv[i + 1] end
-- include opening.lua

-- First look at everything, then charge everything or nothing.
local admitted = 1
for i, key in ipairs(keys) do
  local spec = specs[i]
  spec.states, spec.charge = laden(spec, open[spec.algorithm](key, spec))
  spec.full = refused(spec)
  if spec.full and not spec.shadow then admitted = 0 end
end

-- A limiter in shadow that would refuse is not charged either: it counts as if it were in force.
local reply = { admitted, now }
for _, spec in ipairs(specs) do
  if admitted == 1 and spec.take > 0 and not spec.full then spec.charge(spec.take) end
  tell(reply, spec)
end
return told(reply)
