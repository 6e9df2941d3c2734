-- Take back what a hit has charged: `hit_all` over several slots of a cluster was refused in another one.
--
-- KEYS[1]  the state of one (limiter, key)
-- ARGV[1]  the time in microseconds, or '' for the server's clock
-- ARGV[2]  what the key is held to, as hit.lua reads it; `take` is what was charged
-- ARGV[3]  when, in microseconds, as hit.lua told it
-- ARGV[4]  channel where processes listen that remember refusals
-- ARGV[5]  caller, as it is called on that channel
--
-- Returns one string of whole numbers as hit.lua does, of the state afterwards.

local key, frozen, held_to, charged, channel, caller = KEYS[1], ARGV[1] ~= '', ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = tonumber(ARGV[1])

local call, texts = redis.call, { held_to }
if not frozen then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- include numbers.lua
-- include opening.lua

local spec = specs[1]
local opened = open[spec.algorithm](key, spec)

-- Whoever was refused because of these units may ask again.
if opened.refund(spec.take, tonumber(charged)) then call('PUBLISH', channel, caller) end

-- Opened anew, the state tells what it is now.
opened = open[spec.algorithm](key, spec)
spec.states = laden(spec, opened)
local full = refused(spec)
local reply = { (not full or spec.shadow) and 1 or 0, now }
tell(reply, spec)
return told(reply)
