-- Write a new session's record, under a key nothing may lie under yet.
--
-- KEYS[1]  the record (hash)
-- ARGV[1]  now, µs; empty: the server's clock
-- ARGV[2]  idle time, µs
-- ARGV[3]  time until the absolute deadline, µs
-- ARGV[4]  created, µs; empty: now. A renewed session keeps its first moment ...
-- ARGV[5]  absolute deadline, µs; empty: now plus the time above. ... and its last
-- ARGV[6]  principal; empty: anonymous
-- ARGV[7]  name of the record this one replaces; empty: none
-- ARGV[8]  not after, µs; empty: any time. When the entry in the principal's index becomes too old to trust
-- ARGV[9]  from here: field, value
--
-- Returns  'created', the moment, the absolute deadline and now (µs), separated by spaces
--          'taken'  the key holds a live record
--          'gone'   revoked before it was written, or written too late
local record = KEYS[1]
local now, idle, lifetime = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local created, absolute, principal = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local before, not_after = ARGV[7], tonumber(ARGV[8])
local given = ARGV

if not now then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

-- A tombstone here means: whoever revoked all of the principal's sessions already counted this one in.
if redis.call('HEXISTS', record, 'ended') == 1 then return 'gone' end
if redis.call('EXISTS', record) == 1 then return 'taken' end

absolute = absolute or (now + lifetime)
if now >= absolute or (not_after and now > not_after) then return 'gone' end

local moment, deadline = string.format('%.0f', now), string.format('%.0f', absolute)
if created == '' then created = moment end
-- The idle time is written down for who lists sessions without our settings. (It is handed over as a number:
-- the server writes 17 digits.)
redis.call('HSET', record, 'created', created, 'absolute', deadline, 'touched', moment, 'idle', idle)
if principal ~= '' then redis.call('HSET', record, 'principal', principal) end
if before ~= '' then redis.call('HSET', record, 'before', before) end
if #given <= 200 then
  if #given > 8 then redis.call('HSET', record, unpack(given, 9)) end
else  -- one command a field: unpack() has a limit
  for i = 9, #given, 2 do redis.call('HSET', record, given[i], given[i + 1]) end
end
redis.call('PEXPIRE', record, math.ceil(math.min(idle, absolute - now) / 1000))
return table.concat({'created', created, deadline, moment}, ' ')
