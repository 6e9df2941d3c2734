-- Read a session's record; renew its idle deadline if enough of it has gone.
--
-- KEYS[1]  the record (hash)
-- ARGV[1]  now, µs; empty: the server's clock
-- ARGV[2]  idle time, µs
-- ARGV[3]  write a touch only if the last one is at least this old, µs
--
-- Returns one string, because text is read many times faster than an array by clients written in Python:
--   'live', created, absolute, touched (µs), 1 if retired else 0, how long it may still be shown if it is not
--            used again (µs), the length of the principal (0: none), and the lengths of each field and value of
--            the application, all separated by spaces; a line feed; then principal, field, value, field, value
--            ... one right after the other
--   'absent'   never existed, or expired and gone
--   'expired'  past a deadline, not yet removed
--   'ended'    signed out or revoked a moment ago
local record = KEYS[1]
local now, idle, touch_after = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

if not now then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

local parts = redis.call('HGETALL', record)
if #parts == 0 then return 'absent' end

-- What the record says about itself; an application's own keys begin with 'd:' and cannot be mistaken.
local meta, content, head, n, byte = {}, {}, { 'live', 0, 0, 0, 0, 0, 0 }, 0, string.byte
for i = 1, #parts, 2 do
  local field, value = parts[i], parts[i + 1]
  if byte(field) == 100 then
    content[n + 1], content[n + 2], head[n + 8], head[n + 9] = field, value, #field, #value
    n = n + 2
  else
    meta[field] = value
  end
end
if meta.ended then return 'ended' end

local touched, absolute = tonumber(meta.touched), tonumber(meta.absolute)
if now >= touched + idle or now >= absolute then return 'expired' end
if meta.retired and now >= tonumber(meta.retired) then return 'expired' end

local left = math.min(touched + idle, absolute) - now

-- A retired record is read-only and keeps the deadline of its grace.
if not meta.retired and now - touched >= touch_after then
  -- pcall: a store that refuses writes (full, read-only) can still say who is signed in. The field goes
  -- first: without it the later deadline of the key would promise what the record does not say.
  -- (Numbers are handed to commands as they are: the server writes 17 digits.)
  local told = redis.pcall('HSET', record, 'touched', now, 'idle', idle)
  if type(told) == 'number' then
    redis.pcall('PEXPIRE', record, math.ceil(math.min(idle, absolute - now) / 1000))
  end
end

local principal = meta.principal or ''
head[2], head[3], head[4] = meta.created, meta.absolute, meta.touched
head[5], head[6], head[7] = meta.retired and 1 or 0, string.format('%.0f', left), #principal
return table.concat(head, ' ') .. '\n' .. principal .. table.concat(content)
