-- Forget what one caller of a limiter has used, and tell every process that its refusals have ended.
--
-- KEYS[i]  the states of the caller, one an algorithm
-- ARGV[1]  channel where processes listen that remember refusals
-- ARGV[2]  caller, as it is called on that channel
--
-- Returns how many of the states there were.

local keys, channel, caller = KEYS, ARGV[1], ARGV[2]

-- Told in the same run: who hears of it and asks again cannot meet the old state.
local forgotten = redis.call('DEL', unpack(keys))
if forgotten > 0 then
  redis.call('PUBLISH', channel, caller)
end
return forgotten
