-- Part of hit.lua: the next common case, several limits of a sliding log, or several sliding logs.
--
-- Takes no KEYS and no ARGV of its own: it reads those that hit.lua named. The windows begin where the headers
-- say, or a few entries later, no units are held, and there is room in the rings. `straight` answers as the
-- general way does, in a third of the time, or returns nothing before anything is written. The layout is told
-- in log.lua.

local read, pack, match, find = struct.unpack, struct.pack, string.match, string.find

-- Look at one log: adds what it says to the reply and returns what charging it takes; nothing if it is for the
-- general way.
local function look(key, spec, reply)
  local need, take, shadow, terms = match(spec, '^log (%d+) (%d+) (%d) %d+ 0 (.+)$')
  local h = need and call('GETRANGE', key, 0, 123) or ''
  if #h < 52 then return end
  local version, wide, shift, m, capacity, head, _, newest, total = read('>BBBBI4I4I4I8I4', h)
  if version ~= 1 or shift ~= 0 or now < newest then return end
  need, take = tonumber(need), tonumber(take)
  local unit, split, span = 2 ^ wide, 2 ^ (32 - wide), 2 ^ (64 - wide)
  local start, at, kept, longest, edges, full, from = 28 + 24 * m, 29, 0, 0, '', false, 1
  repeat
    if m == 0 or at + 23 > #h then return end
    local _, stop, count, window = find(terms, '^(%d+) (%d+) ?', from)
    -- The edge of this window, as it was when the header was written.
    local own, oldest, inside, before = read('>I8I8I4I4', h, at)
    count, window, m, at, from = tonumber(count), tonumber(window), m - 1, at + 24, stop + 1
    if own ~= window or inside == 0 or newest + window <= now then return end
    if count >= unit or window > span then return end
    -- Entries that have left since: mostly one a hit. Many are better found by search.
    local tries = 8
    while oldest + window <= now do
      inside, tries = inside - 1, tries - 1
      if tries == 0 then return end
      local word = start + 8 * ((head - inside) % capacity)
      local high, low = read('>I4I4', call('GETRANGE', key, word, word + 7))
      oldest, before = newest - (newest - high * split - floor(low / unit)) % span, low % unit
    end
    -- Where more than the oldest entry must leave first, the wait is found by search.
    local left = count - (total - before) % unit
    if left < 0 or count < need or left < need - 1 then return end
    local oldest_gone, i = oldest + window - now, #reply
    full = full or left < need
    reply[i + 1], reply[i + 2], reply[i + 3] = left, left < need and oldest_gone or 0, oldest_gone
    reply[i + 4] = newest + window - now
    edges = edges .. pack('>I8I8I4I4', window, oldest, inside + 1, before)
    kept, longest = max(kept, inside), max(longest, window)
  until from > #terms
  -- Hints that would be left wrong, a ring that is full or mostly dead: for the general way.
  local charged = take > 0 and not full
  if charged and (m > 0 or kept >= capacity or capacity > 64 and kept * 4 < capacity) then return end
  return {
    key = key, take = take, charged = charged, refusing = full and shadow == '0', last = #reply,
    wide = wide, start = start, capacity = capacity, head = head, kept = kept, newest = newest, total = total,
    longest = longest, edges = edges,
  }
end

-- Charge one log: one word into the ring, then the header that counts it.
local function charge(log, reply, first)
  for i = first, log.last, 4 do
    reply[i], reply[i + 3] = reply[i] - log.take, reply[i + 3] + now - log.newest
  end
  local unit, split, span = 2 ^ log.wide, 2 ^ (32 - log.wide), 2 ^ (64 - log.wide)
  local low = now % span
  call('SETRANGE', log.key, log.start + 8 * log.head,
    pack('>I4I4', floor(low / split), low % split * unit + log.total))
  local head, total = (log.head + 1) % log.capacity, (log.total + log.take) % unit
  call('SETRANGE', log.key, 0, pack('>BBBBI4I4I4I8I4', 1, log.wide, 0, (log.start - 28) / 24, log.capacity,
    head, log.kept + 1, now, total) .. log.edges)
  -- The first hit of each quarter of the window extends the life of the key for all that follow in it.
  if floor(now / log.longest * 4) ~= floor(log.newest / log.longest * 4) then
    call('PEXPIRE', log.key, lifetime(log.longest * 1.25))
  end
end

local function straight()
  local logs, reply = {}, { 1, now }
  for i, key in ipairs(keys) do
    local log = look(key, argv[i + 1], reply)
    if not log then return end
    if log.refusing then reply[1] = 0 end
    logs[i] = log
  end
  local first = 3
  for _, log in ipairs(logs) do
    if reply[1] == 1 and log.charged then charge(log, reply, first) end
    first = log.last + 1
  end
  return told(reply)
end
