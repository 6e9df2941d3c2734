-- Set units aside for one caller of a limiter, and settle units set aside before: charge what was spent of them
-- and free the rest. Both in one run, either alone.
--
-- KEYS[1]  the state of one (limiter, key)
-- ARGV[1]  the time in microseconds, or '' for the server's clock
-- ARGV[2]  what the key is held to, as hit.lua reads it; `need` must be free for a hold to be made, and `take`
--          is charged at once when it is
-- ARGV[3]  id of the hold to settle, or ''
-- ARGV[4]  units spent under it
-- ARGV[5]  id of the hold to make, or ''
-- ARGV[6]  units it holds at least
-- ARGV[7]  units it holds at most: between the two, a quarter of what is free
-- ARGV[8]  microseconds it lasts; what is spent under it is spent by then
-- ARGV[9]  channel where processes listen that remember refusals
-- ARGV[10] caller, as it is called on that channel
--
-- Returns one string of whole numbers as hit.lua does, of the state afterwards, and behind them:
--   units the new hold holds (0: it was not made); 1 if the hold to settle was there else 0, and nothing charged.

local key, frozen, held_to, old, spent = KEYS[1], ARGV[1] ~= '', ARGV[2], ARGV[3], ARGV[4]
local id, least, most, lasts, channel, caller = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local now = tonumber(ARGV[1])

local call, texts = redis.call, { held_to }
if not frozen then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- include numbers.lua
-- include opening.lua

spent, least, most, lasts = tonumber(spent), tonumber(least), tonumber(most), tonumber(lasts)
local spec = specs[1]
local opened = open[spec.algorithm](key, spec)
local holds = opened.holds
if opened.carried and id ~= '' then opened.keep() end
setting_aside()

-- What was spent was spent before now, so from now on it counts longer than it need: never too short. A hold that
-- is not there any more, because it was settled before or nobody did so in time, charges nothing.
local settled, freed, place = 0, 0, holding.find(holds, old)
if place then
  settled, freed = 1, holding.remove(holds, place) - spent
  if spent > 0 then opened.charge(spent) end
end

local charge
spec.states, charge = laden(spec, opened)
local full, held = refused(spec), 0
if id ~= '' and not full then
  if spec.take > 0 then charge(spec.take) end
  local free = most * 4
  for j, limit in ipairs(spec.limits) do free = min(free, limit.count - spec.states[j].used) end
  held = min(most, max(least, floor(free / 4)))
  freed = freed - spec.take - held
end
if held > 0 then holding.add(holds, { id = id, units = held, made = now, deadline = now + lasts }) end
if settled == 1 or held > 0 then
  opened.keep()
  spec.states = laden(spec, opened)
end

-- More is free than before: whoever was refused may ask again.
if settled == 1 and freed > 0 then call('PUBLISH', channel, caller) end
local reply = { (not full or spec.shadow) and 1 or 0, now }
tell(reply, spec)
reply[#reply + 1], reply[#reply + 2] = held, settled
return told(reply)
