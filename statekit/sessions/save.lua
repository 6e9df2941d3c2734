-- Write the changed keys of a session, only if it still exists: nothing that was ended ever comes back.
--
-- KEYS[1]  the record (hash)
-- ARGV[1]  now, µs; empty: the server's clock
-- ARGV[2]  idle time, µs
-- ARGV[3]  how many fields to set
-- ARGV[4]  from here: field, value for each to set, then each field to delete
--
-- Returns  'saved'
--          'gone'     unknown, expired or ended: nothing written
--          'retired'  its id was renewed meanwhile; the record is read-only: nothing written
local record = KEYS[1]
local now, idle, set = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local given = ARGV

if not now then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

local meta = redis.call('HMGET', record, 'touched', 'absolute', 'retired', 'ended')
local touched, absolute, retired, ended = tonumber(meta[1] or ''), tonumber(meta[2] or ''), meta[3], meta[4]
if ended or not absolute or now >= touched + idle or now >= absolute then return 'gone' end
if retired then return 'retired' end

-- A write is a use: the idle deadline moves, up to the absolute one. (Numbers are handed to commands as they
-- are: the server writes 17 digits.)
local first_deleted = 4 + 2 * set
if set <= 100 then
  redis.call('HSET', record, 'touched', now, 'idle', idle, unpack(given, 4, first_deleted - 1))
else  -- one command a field: unpack() has a limit
  redis.call('HSET', record, 'touched', now, 'idle', idle)
  for i = 4, first_deleted - 1, 2 do redis.call('HSET', record, given[i], given[i + 1]) end
end
for i = first_deleted, #given do redis.call('HDEL', record, given[i]) end
redis.call('PEXPIRE', record, math.ceil(math.min(idle, absolute - now) / 1000))
return 'saved'
