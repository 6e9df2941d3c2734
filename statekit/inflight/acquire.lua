-- Take one of the slots of a key, if fewer than `limit` are taken.
--
-- KEYS[1]  zset, one member a slot: "fence worker number", scored by the end of its lease in microseconds.
--          Two members are no slots, and scored below zero: "" by minus the last fence given out, "?" by minus
--          the moment until which a slot that comes free is announced
-- ARGV[1]  limit: slots there are
-- ARGV[2]  lease: microseconds until the slot is free by itself
-- ARGV[3]  token: "worker number", who asks; never used twice
-- ARGV[4]  announce: microseconds for which the caller wants to hear of a free slot, or 0
-- ARGV[5]  now: microseconds, or empty for the server's clock
--
-- Returns  {"held", fence, taken} with its own slot among those taken, or {"full", taken, wait}; wait: the
--          microseconds until a slot is free if nobody renews, -1 if that does not help
local key = KEYS[1]
local limit, lease, token = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local announce, now = tonumber(ARGV[4]), tonumber(ARGV[5])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
-- A last fence this far ahead means that the clock was set back. Slots of the dead would then stay taken for as
-- long as it was: no lease ends later than one from now; the living renew theirs well before.
local last = -tonumber(redis.call('ZSCORE', key, '') or 0)
if last > now + lease then
  redis.call('ZREMRANGEBYSCORE', key, 0, now)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, now + lease + 1, '+inf')) do
    redis.call('ZADD', key, now + lease, member)
  end
end

-- A lease that ends now has ended. (Numbers reach the commands with 17 digits, moments have 16.)
local taken = redis.call('ZCOUNT', key, now + 1, '+inf')
if taken < limit then
  -- Comes first also because it only frees memory: a full store lets a script go on that has begun to write.
  redis.call('ZREMRANGEBYSCORE', key, 0, now)
  -- Fences grow, also while the clock stands still.
  local fence = math.max(now, last + 1)
  redis.call('ZADD', key, -fence, '', now + lease, string.format('%.0f %s', fence, token))
  -- The key outlives its longest lease, so that the last fence is known to the next; others may have longer ones.
  redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), math.ceil(lease / 500)))
  return {'held', fence, taken + 1}
end

if limit == 0 then return {'full', taken, -1} end
-- As many leases have to end as bring the count below the limit: more than one if the limit was lowered.
local ends = redis.call('ZRANGEBYSCORE', key, now + 1, '+inf', 'WITHSCORES', 'LIMIT', taken - limit, 1)[2]
-- The key is there and has a lifetime, for there are slots in it. It is not worth an error if there is no room.
if announce > 0 then redis.pcall('ZADD', key, -(now + announce), '?') end
return {'full', taken, tonumber(ends) - now}
