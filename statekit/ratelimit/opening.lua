-- Part of hit.lua: what a key is held to, and how a key of any algorithm is opened.
--
-- Takes no KEYS and no ARGV of its own: the script hands over the texts, and names in `needed` what it opens.

-- Read the words that say what a key is held to.
local function parsed(text)
  local algorithm, rest = string.match(text, '^(%a+) (.+)$')
  local v = {}
  for number in string.gmatch(rest, '%d+') do v[#v + 1] = tonumber(number) end
  local spec = { algorithm = algorithm, need = v[1], take = v[2], shadow = v[3] == 1, bits = v[4],
    shift = v[5], limits = {}, longest = { window = 0 }, highest = 0 }
  for j = 6, #v, 2 do
    local limit = { index = #spec.limits + 1, count = v[j], window = v[j + 1] }
    spec.limits[limit.index] = limit
    spec.highest = max(spec.highest, limit.count)
    if limit.window > spec.longest.window then spec.longest = limit end
  end
  return spec
end

local specs, needed = {}, {}
for i, text in ipairs(texts) do
  specs[i] = parsed(text)
  needed[specs[i].algorithm == 'log' and 'log' or 'rows'] = true
end

-- Units set aside: all algorithms count them alike. These functions are made where there are any, for that is rare.
local holding, SIZE = nil, 62
local function no_holds() return { n = 0, total = 0, made = 0, text = '' } end
-- The number in some columns of the i-th hold.
local function number_of(holds, i, from, to)
  local before = SIZE * (i - 1)
  return tonumber(string.sub(holds.text, before + from, before + to))
end
local function setting_aside()
  if holding then return holding end
  -- include holds.lua
  return holding
end

-- The states of an opened key with its holds over them, and the function that charges units.
local function laden(spec, opened)
  if opened.holds.n == 0 then return opened.states, opened.charge end
  return setting_aside().laden(spec, opened)
end

-- Milliseconds a key lives that would live `micros` without its holds.
local function life_of(opened, window, micros)
  local holds = opened.holds
  if holds.n > 0 then micros = max(micros, number_of(holds, holds.n, 47, 62) + window - now) end
  return lifetime(micros)
end

-- Each algorithm opens a key. It returns `states`, for each limit the units `used` and `wait(target)`,
-- microseconds until no more than `target` are used; `charge(units)`, which charges and stores all;
-- the `holds`, and `keep()`, which stores them when they have changed.
local open = {}
if needed.log then
  -- include log.lua
end
if needed.rows then
  -- include rows.lua
end

-- How long each limit of a key makes the call wait; whether one refuses it.
local function refused(spec)
  local full = false
  for j, limit in ipairs(spec.limits) do
    limit.wait = spec.need > limit.count and -1 or spec.states[j].wait(limit.count - spec.need)
    full = full or limit.wait ~= 0
  end
  return full
end

-- Add to a reply where each limit of a key stands.
local function tell(reply, spec)
  for j, limit in ipairs(spec.limits) do
    local state, at = spec.states[j], #reply
    reply[at + 1] = max(0, limit.count - state.used)
    reply[at + 2] = limit.wait
    -- One more unit comes free when one less is used; where a lowered limit is overdrawn, when it no longer is.
    reply[at + 3] = state.wait(max(0, min(state.used, limit.count) - 1))
    reply[at + 4] = state.wait(0)
  end
end
