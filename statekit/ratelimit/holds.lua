-- Part of hit.lua: units set aside for a caller (holds), laid over what an algorithm has counted. hold.lua makes
-- and ends them.
--
-- Takes no KEYS and no ARGV of its own: the algorithms hand it what they read. It sets `holding`.
--
-- Behind all else under the key: a head `=number total made`, then the holds `|id units made deadline`, the first
-- to end first, all of fixed width, so that none is parsed that is not needed. What is spent under a hold is spent
-- by its deadline, so until then and one window longer its units count as used: nothing may pass meanwhile that
-- would be too much if they were spent at the last moment.

local sub, HEAD = string.sub, 41

-- The first to last of some holds, parsed.
local function parsed_holds(holds)
  local list = {}
  for i = 1, holds.n do
    local from = SIZE * (i - 1)
    list[i] = { id = sub(holds.text, from + 2, from + 17), units = number_of(holds, i, 19, 28),
      made = number_of(holds, i, 30, 45), deadline = number_of(holds, i, 47, 62) }
  end
  return list
end

local function entry_of(hold)
  return string.format('|%s %010.0f %016.0f %016.0f', hold.id, hold.units, hold.made, hold.deadline)
end

-- The clock was set back for good: holds last as long as they would have. Returns whether there were such.
local function set_back(holds, longest)
  local list, moved = parsed_holds(holds), false
  for _, hold in ipairs(list) do
    if hold.made - now > longest then
      hold.deadline, hold.made, moved = hold.deadline - hold.made + now, now, true
    end
  end
  if not moved then return false end
  table.sort(list, function(a, b)
    if a.deadline == b.deadline then return a.id < b.id end
    return a.deadline < b.deadline
  end)
  holds.made = now
  for i, hold in ipairs(list) do
    list[i], holds.made = entry_of(hold), max(holds.made, hold.made)
  end
  holds.text = table.concat(list)
  return true
end

-- Take the i-th hold out; returns its units.
local function remove(holds, i)
  local units, from = number_of(holds, i, 19, 28), SIZE * (i - 1)
  holds.text = sub(holds.text, 1, from) .. sub(holds.text, from + SIZE + 1)
  holds.n, holds.total = holds.n - 1, holds.total - units
  return units
end

-- The holds in a text that still count for the longest window; whether one was moved; whether some do not count
-- any more.
local function read(text, longest)
  local n, total, made = string.match(text, '^=(%d+) (%d+) (%d+)')
  local holds = { n = tonumber(n), total = tonumber(total), made = tonumber(made) }
  holds.text = sub(text, HEAD + 2, HEAD + 1 + SIZE * holds.n)
  local moved, before = holds.made - now > longest and set_back(holds, longest), holds.n
  while holds.n > 0 and number_of(holds, 1, 47, 62) + longest <= now do remove(holds, 1) end
  return holds, moved, holds.n < before
end

local function written(holds)
  if holds.n == 0 then return '' end
  return string.format('=%07.0f %016.0f %016.0f', holds.n, holds.total, holds.made) .. holds.text
end

-- Put a hold in its place, which mostly is the last.
local function add(holds, hold)
  local i = holds.n
  while i > 0 and number_of(holds, i, 47, 62) > hold.deadline do i = i - 1 end
  holds.text = sub(holds.text, 1, SIZE * i) .. entry_of(hold) .. sub(holds.text, SIZE * i + 1)
  holds.n, holds.total, holds.made = holds.n + 1, holds.total + hold.units, max(holds.made, hold.made)
end

-- The place of a hold, if it is there.
local function find(holds, id)
  local at = id ~= '' and string.find(holds.text, '|' .. id .. ' ', 1, true)
  return at and (at - 1) / SIZE + 1
end

-- One window's own state with the holds over it.
local function burdened(own, window, holds)
  local function ends(i) return number_of(holds, i, 47, 62) + window - now end
  local gone, held, left = 0, holds.total, nil
  while gone < holds.n and ends(gone + 1) <= 0 do
    gone = gone + 1
    held = held - number_of(holds, gone, 19, 28)
  end
  local state = { used = own.used + held, held = held }
  -- The more holds are gone the later it is, and the less of the own units must have gone besides: the least
  -- time for both is where these two cross.
  local function crossing(target)
    if not left then
      -- left[i]: units still set aside when the i holds that end first are gone.
      left = { [gone] = held }
      for i = gone + 1, holds.n do left[i] = left[i - 1] - number_of(holds, i, 19, 28) end
    end
    local low, high = gone, holds.n + 1
    while low < high do
      local i = floor((low + high) / 2)
      local at = i > gone and ends(i) or 0
      if left[i] <= target and at >= own.wait(target - left[i]) then high = i else low = i + 1 end
    end
    local least = low <= holds.n and (low > gone and ends(low) or 0)
    if low > gone and left[low - 1] <= target then
      local other = own.wait(target - left[low - 1])
      least = least and min(least, other) or other
    end
    return least
  end
  function state.wait(target)
    if state.used <= target then return 0 end
    if gone == holds.n then return own.wait(target) end
    if target == 0 then return max(own.wait(0), ends(holds.n)) end
    -- One unit less: an own one, or the first hold.
    if target == state.used - 1 then
      local first = ends(gone + 1)
      return own.used > 0 and min(first, own.wait(own.used - 1)) or first
    end
    return crossing(target)
  end
  return state
end

-- All states of an opened key with its holds over them, and the function that charges units.
local function laden(spec, opened)
  local over = {}
  for j, limit in ipairs(spec.limits) do over[j] = burdened(opened.states[j], limit.window, opened.holds) end
  return over, function(units)
    opened.charge(units)
    for j, state in ipairs(over) do state.used = opened.states[j].used + state.held end
  end
end

holding = { read = read, written = written, laden = laden, add = add, find = find, remove = remove }
