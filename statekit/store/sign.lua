-- Sign the roster of live workers, and count all who have signed lately.
--
-- KEYS[1]  roster    sorted set: worker -> microseconds of its last sign of life; expires
-- ARGV[1]  now       microseconds since 1970; empty: the server's clock
-- ARGV[2]  worker    who signs
-- ARGV[3]  lifetime  microseconds without a sign after which a worker counts as gone
--
-- Returns how many are alive, the one who signs included.

local roster, given, worker, lifetime = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])

local now = tonumber(given)
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- Signs from the future are from before the clock was set back; who lives will sign again.
redis.call('ZREMRANGEBYSCORE', roster, '-inf', string.format('%.0f', now - lifetime))
redis.call('ZREMRANGEBYSCORE', roster, string.format('(%.0f', now + lifetime), '+inf')
redis.call('ZADD', roster, string.format('%.0f', now), worker)
redis.call('PEXPIRE', roster, string.format('%.0f', math.ceil(lifetime / 1000)))
return redis.call('ZCARD', roster)
