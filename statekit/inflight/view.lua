-- Show which slots of a key are taken. Writes nothing.
--
-- KEYS[1]  zset, one member a slot, as acquire.lua writes it
-- ARGV[1]  rows: 1 to list the slots, 0 to count them
-- ARGV[2]  now: microseconds, or empty for the server's clock
--
-- Returns  {taken, member, end, member, end, ...}, the lease that ends first at the front; ends in microseconds
local key = KEYS[1]
local rows, now = ARGV[1] == '1', tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
-- A lease that ends now has ended.
local after = now + 1

local reply = {redis.call('ZCOUNT', key, after, '+inf')}
if rows then
  local stored = redis.call('ZRANGEBYSCORE', key, after, '+inf', 'WITHSCORES')
  for i = 1, #stored, 2 do
    reply[#reply + 1] = stored[i]
    -- From text to an integer: a score may be written as 1.8e+15.
    reply[#reply + 1] = tonumber(stored[i + 1])
  end
end
return reply
