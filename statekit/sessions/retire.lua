-- Take a session's id out of use because it is being renewed, and hand over what the record holds.
-- For the length of the grace the old id shows the record as it was, read-only. What is left of it stays a
-- little longer, so that who ends the old session now still learns which one to end with it.
--
-- KEYS[1]  the old record (hash)
-- ARGV[1]  now, µs; empty: the server's clock
-- ARGV[2]  idle time, µs
-- ARGV[3]  grace, µs; 0: none, a tombstone takes the record's place
-- ARGV[4]  time a tombstone stays, ms; a retired record stays at least that long
-- ARGV[5]  name of the record that replaces it; empty: not told (see sign-in)
--
-- Returns  {'live', field, value, ...}     it was in use until now
--          {'retired', field, value, ...}  somebody else renewed it a moment ago; unchanged
--          {'gone'}                        unknown, expired or ended
local record = KEYS[1]
local now, idle, grace = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tombstone_ms, after = tonumber(ARGV[4]), ARGV[5]

if not now then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

local meta = redis.call('HMGET', record, 'touched', 'absolute', 'retired', 'ended')
local touched, absolute, retired, ended = tonumber(meta[1] or ''), tonumber(meta[2] or ''), meta[3], meta[4]
if ended or not absolute or now >= touched + idle or now >= absolute then return {'gone'} end
if retired and now >= tonumber(retired) then return {'gone'} end

-- Read before anything is changed: the new record must hold every write that came before this moment.
local fields = redis.call('HGETALL', record)
if retired then
  table.insert(fields, 1, 'retired')
  return fields
end

local stays = tombstone_ms
if grace == 0 then
  redis.call('HSET', record, 'ended', '1')  -- fails on a full store, while there is still something to keep
  redis.call('DEL', record)
  redis.call('HSET', record, 'ended', '1')
else
  -- The view never outlives the session it shows.
  local left = math.min(grace, touched + idle - now, absolute - now)
  redis.call('HSET', record, 'retired', string.format('%.0f', now + left))
  stays = math.max(stays, math.ceil(left / 1000))
end
if after ~= '' then redis.call('HSET', record, 'after', after) end
redis.call('PEXPIRE', record, string.format('%.0f', stays))

table.insert(fields, 1, 'live')
return fields
