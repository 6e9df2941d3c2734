-- Prolong slots, those that are still theirs; one whose lease has run out is not brought back.
--
-- KEYS[1]  zset, one member a slot, as acquire.lua writes it
-- ARGV[1]  lease: microseconds from now
-- ARGV[2]  now: microseconds, or empty for the server's clock
-- ARGV[3]  from here: the members
--
-- Returns  for each member 1 if it was prolonged, else 0
local key = KEYS[1]
local lease, now = tonumber(ARGV[1]), tonumber(ARGV[2])
local members = ARGV
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- What has run out is gone, whoever asks. This comes first also because it only frees memory: a full store lets a
-- script go on that has begun to write, and a renewal needs no memory.
redis.call('ZREMRANGEBYSCORE', key, 0, now)

local reply, renewed = {}, false
for i = 3, #members do
  local held = redis.call('ZSCORE', key, members[i])
  if held then redis.call('ZADD', key, now + lease, members[i]) end
  renewed = renewed or held
  reply[#reply + 1] = held and 1 or 0
end
-- As in acquire.lua.
if renewed then
  redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), math.ceil(lease / 500)))
end
return reply
