-- Enter a session in its principal's index. Done before the session itself is written, so that there is
-- never a session of a principal that the index does not know.
--
-- KEYS[1]  the index (sorted set: name of a record, scored by its absolute deadline in ms)
-- ARGV[1]  now, µs; empty: the server's clock
-- ARGV[2]  name of the record
-- ARGV[3]  time until the absolute deadline, µs
-- ARGV[4]  absolute deadline, µs; empty: now plus the time above
--
-- Returns  now, µs, as text
local index = KEYS[1]
local now, name, lifetime, absolute = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

if not now then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

-- What a full store refuses comes first: after any other write it would be let through, and the entry would
-- stay behind from a sign-in that goes on to fail.
absolute = absolute or (now + lifetime)
redis.call('ZADD', index, string.format('%.0f', math.ceil(absolute / 1000)), name)

-- Entries past their deadline go as new ones come: the index never holds more than one lifetime of sign-ins.
redis.call('ZREMRANGEBYSCORE', index, '-inf', string.format('%.0f', math.floor(now / 1000)))

-- The index lives as long as its longest-lived session.
local left = math.ceil((absolute - now) / 1000)
if left > redis.call('PTTL', index) then redis.call('PEXPIRE', index, string.format('%.0f', left)) end
return string.format('%.0f', now)
