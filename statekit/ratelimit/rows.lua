-- Part of hit.lua: fixed window, sliding counter and GCRA, a few numbers a limit.
--
-- Takes no KEYS and no ARGV of its own: a key and a parsed spec are handed to the functions it sets in `open`.
--
-- One string a key: four numbers a limit, parted by blanks, the window first. Each algorithm makes of such a
-- row a state: `used` units now, `wait(target)` microseconds until no more than `target` are used,
-- `take(units)`, `refund(units, at)` what was taken at a moment, and `row()`. A row of another window, or another
-- rate, hands on the units it counts. The holds of the key follow the rows.

-- Begin of the window that holds `now`, and whether the stored one still runs. A clock that went back is held
-- at the stored begin; one that went back by more than a window was set back for good.
local function aligned(begin, window)
  local here = now - now % window
  if begin and begin > here and begin - now <= window then return begin end
  return here
end

-- The fixed window counts from each whole multiple of the window since 1970.
--   row: window, begin of the window counted in, units, 0
local function open_fixed(row, window)
  local begin = aligned(row and row[2], window)
  local state = { used = 0, moved = row and row[2] > begin }
  if row and row[2] >= begin then state.used = row[3] end
  function state.wait(target)
    return state.used > target and begin + window - now or 0
  end
  function state.take(units) state.used = state.used + units end
  -- Units of a window that is over count no more anyway.
  function state.refund(units, at)
    if at - at % window == begin then state.used = max(0, state.used - units) end
  end
  function state.row() return { window, begin, state.used, 0 } end
  return state
end

-- Of the window before, the share that still overlaps the last `window` microseconds counts, rounded up. The
-- products stay below 2^53: where they would not, time is taken in steps of `q` microseconds.
--   row: window, begin of the window counted in, units in it, units in the window before
local function open_counter(row, window, count)
  local begin = aligned(row and row[2], window)
  local current, before, q = 0, 0, 1
  if row and row[2] >= begin then
    current, before = row[3], row[4]
  elseif row and row[2] == begin - window then
    before = row[3]
  end
  while max(current, before, count or 0) * ceil(window / q) >= 2 ^ 52 do q = q * 2 end
  local steps, offset = ceil(window / q), max(0, begin - now)
  local rest = begin + window - max(now, begin)
  -- In whole numbers: what counts of the window before is share / steps, rounded up.
  local share = before * ceil(rest / q)
  local state = { used = current + floor((share + steps - 1) / steps), moved = row and row[2] > begin }
  function state.wait(target)
    if state.used <= target then return 0 end
    -- Solved for the time left, within this window or, if its own units are too many, within the next.
    if target >= current then return offset + rest - floor((target - current) * steps / before) * q end
    return offset + rest + window - floor(target * steps / current) * q
  end
  function state.take(units)
    current, state.used = current + units, state.used + units
  end
  -- From the counter it was added to, which may be the one of the window before by now.
  function state.refund(units, at)
    local since = at - at % window
    if since == begin then
      current = max(0, current - units)
    elseif since == begin - window then
      before = max(0, before - units)
    end
    state.used = current + floor((before * ceil(rest / q) + steps - 1) / steps)
  end
  function state.row() return { window, begin, current, before } end
  return state
end

-- GCRA: `debt` is how far the theoretical arrival time lies ahead, in grains (1/1000 microsecond, or 1 for
-- windows above 100 days); each unit adds `emission` grains, rounded up, so a burst never exceeds the count.
-- It drains by itself as time passes; up to count * emission may be owed, which is the burst.
--   row: window, emission, moment of the debt, debt
local function open_gcra(row, window, count)
  local grains = window > 8640000000000 and 1 or 1000
  local emission = count and ceil(window * grains / max(count, 1)) or row[2]
  local at, debt = now, 0
  if row and row[3] > now and row[3] - now <= window then
    at, debt = row[3], row[4]
  elseif row then
    debt = max(0, row[4] - max(0, now - row[3]) * grains)
  end
  local state = { used = ceil(debt / emission), moved = row and row[3] - now > window }
  function state.wait(target)
    local excess = debt - target * emission
    return excess > 0 and at - now + ceil(excess / grains) or 0
  end
  function state.take(units)
    -- Only what was spent beyond its hold can be more than a number holds exactly: it counts as the most.
    debt = min(debt + units * emission, 9e15)
    state.used = ceil(debt / emission)
  end
  -- If others were charged since, the bucket might have run over meanwhile had it not been for this debt: what
  -- would have been lost then is not given back.
  function state.refund(units, when)
    local idle = row and max(0, row[3] - when) or 0
    debt = max(0, debt - max(0, units * emission - idle * grains))
  end
  function state.row() return { window, emission, at, debt } end
  return state
end

local OPEN = { fixed = open_fixed, counter = open_counter, gcra = open_gcra }

-- Read all rows of a key, and the holds behind them; nothing if there is no key.
local function rows_of(key, window)
  local rows, row, holds, moved, text = {}, {}, nil, false, call('GET', key) or ''
  local bar = string.find(text, '=', 1, true)
  if bar then
    holds, moved = setting_aside().read(string.sub(text, bar), window)
    text = string.sub(text, 1, bar - 1)
  end
  for number in string.gmatch(text, '%d+') do
    row[#row + 1] = tonumber(number)
    if #row == 4 then rows[#rows + 1], row = row, {} end
  end
  return rows, holds or no_holds(), moved
end

-- Write all; the key lives until neither a row nor a hold counts anything any more.
local function save(key, opened, window)
  local numbers, longest = {}, 0
  for _, state in ipairs(opened.states) do
    for _, number in ipairs(state.row()) do numbers[#numbers + 1] = string.format('%.0f', number) end
    longest = max(longest, state.wait(0))
  end
  local text = table.concat(numbers, ' ')
  if opened.holds.n > 0 then text = text .. setting_aside().written(opened.holds) end
  call('SET', key, text, 'PX', life_of(opened, window, longest))
end

-- The state of one limit: its own row, else what the row in its place has counted, else a fresh one.
local function resumed(open, rows, i, limit, paired)
  local own
  for _, row in ipairs(rows) do
    if row[1] == limit.window then own = row end
  end
  local old = own or (paired and rows[i])
  -- GCRA counts in the emissions of its rate: with another count the same window is another row.
  local emission = open == open_gcra and open(nil, limit.window, limit.count).row()[2]
  if own and (not emission or emission == own[2]) then return open(own, limit.window, limit.count) end
  -- What was counted is charged now, at most the whole limit: nobody waits longer than one window for it.
  local state = open(nil, limit.window, limit.count)
  local used = old and min(open(old, old[1]).used, limit.count) or 0
  if used > 0 then state.take(used) end
  state.carried = used > 0
  state.refund = nil
  return state
end

-- Open a key for one decision.
local function open_rows(key, spec)
  local window, states = spec.longest.window, {}
  local rows, holds, moved = rows_of(key, window)
  local carried = false
  local opened = { states = states, holds = holds }
  for i, limit in ipairs(spec.limits) do
    states[i] = resumed(OPEN[spec.algorithm], rows, i, limit, #rows == #spec.limits)
    moved, carried = moved or states[i].moved, carried or states[i].carried
  end
  function opened.keep() save(key, opened, window) end
  function opened.charge(units)
    for _, state in ipairs(states) do state.take(units) end
    save(key, opened, window)
  end
  -- Where the limits were changed since, what is left of the hit is not known any more, and stays.
  function opened.refund(units, at)
    for _, state in ipairs(states) do
      if not state.refund or #rows == 0 then return false end
      state.refund(units, at)
    end
    save(key, opened, window)
    return true
  end
  -- Kept even if this call is refused, or each would find the clock set back anew, or the limits changed: units
  -- carried over anew each time would never leave. Who only looks leaves all as it is.
  if moved or carried and spec.take > 0 then opened.keep() end
  opened.carried = carried
  return opened
end

open.fixed, open.counter, open.gcra = open_rows, open_rows, open_rows
