-- List the names in a principal's index, newest deadline first.
--
-- KEYS[1]  the index (sorted set: name of a record, scored by its absolute deadline in ms)
-- ARGV[1]  now, µs; empty: the server's clock
-- ARGV[2]  how many at most; -1: all
--
-- Returns  {name, ...}
local index = KEYS[1]
local now, most = tonumber(ARGV[1]), ARGV[2]

if not now then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

-- Who is past the absolute deadline is gone, whether or not a new entry has swept it out yet.
local since = '(' .. string.format('%.0f', math.floor(now / 1000))
return redis.call('ZREVRANGEBYSCORE', index, '+inf', since, 'LIMIT', 0, most)
