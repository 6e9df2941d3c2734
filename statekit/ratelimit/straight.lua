-- Part of hit.lua: the next common case, several limits of one sliding log.
--
-- Takes no KEYS and no ARGV of its own: it reads those that hit.lua named. The windows begin where the header
-- says, or a few entries later, no units are held, and there is room in the ring. `straight` answers as the general way does, in
-- half of the time, or returns nothing before anything is written. The layout is told in log.lua.

local function straight()
  local need, take, shadow, terms = string.match(argv[2], '^log (%d+) (%d+) (%d) %d+ 0 (.+)$')
  local h = need and call('GETRANGE', keys[1], 0, 123) or ''
  if #h < 52 then return end
  local read, pack = struct.unpack, struct.pack
  local version, wide, shift, m, capacity, head, n, newest, total, at = read('>BBBBI4I4I4I8I4', h)
  if version ~= 1 or shift ~= 0 or now < newest then return end
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
