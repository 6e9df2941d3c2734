-- Part of hit.lua: units set aside for a caller (holds), laid over what an algorithm has counted. hold.lua makes
-- and ends them.
--
-- Takes no KEYS and no ARGV of its own: the algorithms hand it what they read. It sets `holding`.
--
-- A hold is written `|id units made deadline`, behind all else under the key. What is spent under it is spent by
-- its deadline, so until then and one window longer its units count as used: nothing may pass meanwhile that
-- would be too much if they were spent at the last moment.

-- The holds in a text that still count for the longest window, the first to end first; whether one was moved;
-- whether some do not count any more.
local function holds_of(text, longest)
  local holds, moved, lapsed = {}, false, false
  for id, units, made, deadline in string.gmatch(text, '|(%x+) (%d+) (%d+) (%d+)') do
    local hold = { id = id, units = tonumber(units), made = tonumber(made), deadline = tonumber(deadline) }
    -- The clock was set back for good: the hold lasts as long as it would have.
    if hold.made - now > longest then
      hold.deadline, hold.made, moved = hold.deadline - hold.made + now, now, true
    end
    if hold.deadline + longest > now then holds[#holds + 1] = hold else lapsed = true end
  end
  -- They were written in this order; only one that was moved may have left its place.
  if moved then
    table.sort(holds, function(a, b)
      if a.deadline == b.deadline then return a.id < b.id end
      return a.deadline < b.deadline
    end)
  end
  return holds, moved, lapsed
end

local function text_of(holds)
  local parts = {}
  for i, hold in ipairs(holds) do
    parts[i] = string.format('|%s %.0f %.0f %.0f', hold.id, hold.units, hold.made, hold.deadline)
  end
  return table.concat(parts)
end

-- One window's own state with the holds over it.
local function burdened(own, window, holds)
  local gone = 0
  while gone < #holds and holds[gone + 1].deadline + window <= now do gone = gone + 1 end
  -- held[i]: units still set aside when the i holds that end first are gone.
  local held = { [#holds] = 0 }
  for i = #holds - 1, gone, -1 do held[i] = held[i + 1] + holds[i + 1].units end
  local state = { used = own.used + held[gone], held = held[gone] }
  -- The more holds are gone the later it is, and the less of the own units must have gone besides: the least
  -- time for both is where these two cross.
  function state.wait(target)
    if state.used <= target then return 0 end
    local low, high = gone, #holds + 1
    while low < high do
      local i = floor((low + high) / 2)
      local ends = i > gone and holds[i].deadline + window - now or 0
      if held[i] <= target and ends >= own.wait(target - held[i]) then high = i else low = i + 1 end
    end
    local least = low <= #holds and (low > gone and holds[low].deadline + window - now or 0)
    if low > gone and held[low - 1] <= target then
      local other = own.wait(target - held[low - 1])
      least = least and min(least, other) or other
    end
    return least
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

holding = { read = holds_of, written = text_of, laden = laden }
