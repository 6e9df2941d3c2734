-- Read a session's record; renew its idle deadline if enough of it has gone.
--
-- KEYS[1]  the record (hash)
-- ARGV[1]  now, µs; empty: the server's clock
-- ARGV[2]  idle time, µs
-- ARGV[3]  write a touch only if the last one is at least this old, µs
--
-- Returns  {'live', field, value, ...}
--          {'absent'}   never existed, or expired and gone
--          {'expired'}  past a deadline, not yet removed
--          {'ended'}    signed out or revoked a moment ago
local record = KEYS[1]
local now, idle, touch_after = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

if not now then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

local fields = redis.call('HGETALL', record)
if #fields == 0 then return {'absent'} end

-- What the record says about itself; an application's own keys begin with 'd:' and cannot be mistaken.
local meta = {}
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 2) ~= 'd:' then meta[fields[i]] = fields[i + 1] end
end
if meta.ended then return {'ended'} end

local touched, absolute = tonumber(meta.touched), tonumber(meta.absolute)
if now >= touched + idle or now >= absolute then return {'expired'} end
if meta.retired and now >= tonumber(meta.retired) then return {'expired'} end

-- A retired record is read-only and keeps the deadline of its grace.
if not meta.retired and now - touched >= touch_after then
  local ttl = math.ceil(math.min(idle, absolute - now) / 1000)
  -- pcall: a store that refuses writes (full, read-only) can still say who is signed in. The field goes
  -- first: without it the later deadline of the key would promise what the record does not say.
  local told = redis.pcall('HSET', record, 'touched', string.format('%.0f', now), 'idle', string.format('%.0f', idle))
  if type(told) == 'number' then redis.pcall('PEXPIRE', record, string.format('%.0f', ttl)) end
end

table.insert(fields, 1, 'live')
return fields
