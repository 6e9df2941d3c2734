-- Part of hit.lua: the sliding log. Every hit is remembered for the longest window.
--
-- Takes no KEYS and no ARGV of its own: a key and a parsed spec are handed to `open.log`, which it sets.
--
-- One string: a header, then a ring of 8-byte words, one a hit whatever it cost:
--     the tick of the hit (its low 64 - bits bits) | units charged before it, modulo 2^bits
-- All words from the oldest to the newest are in order of time, so both halves are in order too, and both
-- are read relative to the newest: nothing in the ring is older than the longest window.
--
--   header  1 version | 1 bits | 1 shift | 1 m | 4 capacity | 4 head | 4 entries | 8 newest | 4 total
--   then m times, the edge of a window, a hint that is exact if the window is the one asked for:
--           8 window | 8 tick of its oldest entry | 4 entries in it | 4 units charged before it
--
-- Version 2: behind the ring stand the holds of the key, filled up with blanks. In version 1 there are none,
-- and whatever stands there means nothing.
--
-- Lua numbers are exact up to 2^53; the two halves of a word are therefore never put together.

local byte, FIXED, EDGE = string.byte, 28, 24

-- The numbers that begin at byte `i` of a string.
local function at32(s, i)
  local a, b, c, d = byte(s, i, i + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function at64(s, i)
  return at32(s, i) * 4294967296 + at32(s, i + 4)
end

-- One entry: when, and the units charged before it. `split` parts a half that is shared by both.
local function word(log, tick, units)
  local split = 2 ^ (32 - log.bits)
  local low = tick % 2 ^ (64 - log.bits)
  return u32(floor(low / split)) .. u32(low % split * 2 ^ log.bits + units % 2 ^ log.bits)
end

-- Tick and units-before of one word of `s`, the tick made whole by its distance from the newest.
local function unword(log, s, i)
  local high, low = at32(s, i), at32(s, i + 4)
  local unit = 2 ^ log.bits
  local tick = high * 2 ^ (32 - log.bits) + floor(low / unit)
  return log.newest - (log.newest - tick) % 2 ^ (64 - log.bits), low % unit
end

-- The p-th oldest entry, from 1: its tick, and the units charged before it. One read.
local function entry(log, p)
  local from = log.start + 8 * ((log.head - log.n + p - 1) % log.capacity)
  return unword(log, call('GETRANGE', log.key, from, from + 7), 1)
end

-- The words of the newest `n` entries as they lie in the ring, oldest first: one read, or two where the ring
-- turns round between them.
local function words(log, n)
  if n == 0 then return '' end
  local from = (log.head - n) % log.capacity
  local stop = min(from + n, log.capacity)
  local found = call('GETRANGE', log.key, log.start + 8 * from, log.start + 8 * stop - 1)
  if stop - from == n then return found end
  return found .. call('GETRANGE', log.key, log.start, log.start + 8 * (n - (stop - from)) - 1)
end

-- How many words a ring for `n` entries gets: it fills one size class of the allocator (jemalloc has four a
-- doubling, others have finer ones), but not a fifth more than it needs, and never more than the limit can admit.
local function capacity(log, n)
  -- Small rings get room for half as many again: their classes are so close that each hit would rebuild.
  -- Six bytes are the server's own, before and after the text.
  local bytes = log.start + 8 * (n < 64 and floor(n * 1.5) + 2 or n) + 6
  local base = 64
  while bytes > 2 * base do base = base * 2 end
  local class = ceil(bytes / (base / 4)) * (base / 4)
  return max(n, 1, min(floor((class - 6 - log.start) / 8), n < 64 and class or floor(n * 1.2), log.most))
end

local function version(log) return char(log.holds.n > 0 and 2 or 1) end

-- The header as it shall be. A hint that this call knows nothing about is blanked: its counts are relative
-- to the newest entry, so it would be wrong from now on.
local function header(log)
  local parts = {
    version(log), char(log.bits, log.shift, log.m), u32(log.capacity), u32(log.head),
    u32(log.n), u64(log.newest), u32(log.total % 2 ^ log.bits),
  }
  for i = 1, log.m do
    local edge = log.edges[i]
    parts[#parts + 1] = edge and u64(edge.window) .. u64(edge.oldest) .. u32(edge.n) .. u32(edge.before)
      or string.rep('\0', EDGE)
  end
  return table.concat(parts)
end

-- Lay the ring out anew around `body` (words, oldest first), at its exact size: the server would double a
-- string that grows in place. The number of hints is chosen anew here, and only here: the ring lies after them.
local function rebuild(log, body)
  log.n = #body / 8
  log.m = log.wanted
  log.start = FIXED + EDGE * log.m
  log.capacity = capacity(log, log.n)
  log.head = log.n % log.capacity
  local pad, text = string.rep('\0', 8 * (log.capacity - log.n)), ''
  if log.holds.n > 0 then text = setting_aside().written(log.holds) end
  -- Room for as many holds again, or each new one would copy the ring.
  log.room = #text > (log.room or 0) and 2 * #text or #text > 0 and log.room or 0
  local rest = text .. string.rep(' ', log.room - #text)
  call('SET', log.key, header(log) .. body .. pad .. rest, 'PX', life_of(log, log.window, log.life))
end

-- Write the holds where they stand, or the whole anew if they take more room. The hints stay as the last hit left
-- them: written at another moment they would not be true any more after a clock was set back to that hit.
local function keep(log)
  local text, at = setting_aside().written(log.holds), log.start + 8 * log.capacity
  log.room = log.room or #call('GETRANGE', log.key, at, -1)
  if log.capacity == 0 or #text > log.room then
    local edges = log.edges
    log.edges = {}
    rebuild(log, words(log, log.n))
    log.edges = edges
    return
  end
  if text ~= '' then call('SETRANGE', log.key, at, text .. string.rep(' ', log.room - #text)) end
  call('SETRANGE', log.key, 0, version(log))
  call('PEXPIRE', log.key, life_of(log, log.window, log.life))
end

-- Write every word anew: other widths of its halves, or a clock that was set back. What has left the longest
-- window goes: its age may not fit the new width. Units that no width could hold beside such a window count as
-- the most it holds: more than the limits, which are narrower, allow.
local function recode(log, spec, back)
  local old, shift, scale = words(log, log.n), spec.shift, 2 ^ (log.shift - spec.shift)
  local span, newest = ceil(spec.longest.window / 2 ^ shift), ceil((log.newest - back) * scale)
  local horizon = max(ceil(now / 2 ^ shift), newest) - span
  local body, since = {}, {}
  for p = 1, log.n do
    local tick, units = unword(log, old, 8 * p - 7)
    tick = ceil((tick - back) * scale)
    if tick > horizon then
      body[#body + 1] = tick
      since[#body] = (log.total - units) % 2 ^ log.bits
    end
  end
  local bits = spec.bits
  while 2 ^ bits <= (since[1] or 0) and bits < 32 and 2 ^ (63 - bits) >= span do bits = bits + 1 end
  log.bits, log.shift, log.hints = bits, shift, nil
  -- Counted backwards from the newest, which from now on has 0 units before and with it.
  log.newest, log.total = body[1] and newest or 0, 0
  local kept, most = {}, 2 ^ bits - 1
  for p, tick in ipairs(body) do
    local before = min(since[p], most)
    -- Each entry holds a unit at least: search relies on it.
    if before > min(since[p + 1] or 0, most) then kept[#kept + 1] = word(log, tick, -before) end
  end
  rebuild(log, table.concat(kept))
end

-- Read the header, and bring the stored log and this moment together where they contradict each other.
local function load(key, spec)
  local h = call('GETRANGE', key, 0, FIXED + EDGE * #spec.limits - 1)
  local log = { key = key, bits = spec.bits, shift = spec.shift, n = 0, m = 0, capacity = 0, head = 0,
    newest = 0, total = 0, start = FIXED, edges = {}, most = spec.longest.count,
    wanted = min(#spec.limits, 8), window = spec.longest.window, life = spec.longest.window * 1.25,
    holds = no_holds(), room = 0 }
  if h == '' then return log end
  local layout
  layout, log.bits, log.shift, log.m = byte(h, 1, 4)
  log.capacity, log.head, log.n = at32(h, 5), at32(h, 9), at32(h, 13)
  log.newest, log.total = at64(h, 17), at32(h, 25)
  log.start, log.hints, log.room = FIXED + EDGE * log.m, h, nil
  local moved
  if layout == 2 then
    local text = call('GETRANGE', key, log.start + 8 * log.capacity, -1)
    log.room = #text
    log.holds, moved, log.lapsed = setting_aside().read(text, log.window)
  end
  -- A clock that is behind the newest entry by no more than the window is taken to stand at that entry.
  local tick = 2 ^ log.shift
  local span, ahead = ceil(spec.longest.window / tick), log.newest - ceil(now / tick)
  local narrow = 2 ^ (64 - log.bits) < span or 2 ^ log.bits <= spec.highest
  log.life = log.window * 1.25 + max(0, min(ahead, span)) * tick
  if ahead > span then
    recode(log, spec, ahead)  -- the clock was set back for good: entries keep their ages
  elseif narrow or log.shift ~= spec.shift then
    recode(log, spec, 0)
  elseif moved then
    keep(log)
  end
  return log
end

-- The first of the entries after the `low`-th that is still inside the window; the newest is known to be.
-- In steps that double until one is found inside, then by halves: few entries leave between two calls.
local function search(log, low, window)
  local high, step, tick, units = log.n, 1, nil, nil
  local found_tick, found_units
  while high - low > 1 do
    local p = found_tick and floor((low + high) / 2) or min(low + step, high - 1)
    tick, units = entry(log, p)
    if tick + window > log.tick then
      high, found_tick, found_units = p, tick, units
    else
      low, step = p, step * 2
    end
  end
  if not found_tick then found_tick, found_units = entry(log, high) end
  return high, found_tick, found_units
end

-- Where a window begins in the ring: from the hint if it still holds, else by search from there.
local function edge_of(log, i, window)
  if log.n == 0 or log.newest + window <= log.tick then
    return { window = window, n = 0, oldest = 0, before = log.total }
  end
  local low, at = 0, FIXED + EDGE * (i - 1) + 1
  if log.hints and i <= log.m and at64(log.hints, at) == window then
    local oldest, n = at64(log.hints, at + 8), at32(log.hints, at + 16)
    if n > 0 and oldest + window > log.tick then
      return { window = window, n = n, oldest = oldest, before = at32(log.hints, at + 20) }
    end
    low = log.n - n
  end
  -- Entries up to `low` had left the window when the hint was written, so they are out of it now.
  local first, oldest, before = search(log, low, window)
  return { window = window, n = log.n - first + 1, oldest = oldest, before = before }
end

-- The tick of the entry whose end frees the `units`-th unit of a window. Each entry holds at least one unit,
-- so it is no further from the edge than that; where all hits cost one it is exactly there, and found at once.
local function holder(log, edge, units)
  if units <= 1 then return edge.oldest end
  local low = log.n - edge.n + 1
  local high = min(log.n, low + units - 1)
  local tick, found = edge.oldest, high
  while high >= low do
    local t, before = entry(log, found)
    if (before - edge.before) % 2 ^ log.bits < units then
      tick, low = t, found + 1
    else
      high = found - 1
    end
    found = floor((low + high) / 2)
  end
  return tick
end

-- Add a hit. The ring grows only while all it holds is inside the longest window; what has left is overwritten.
local function append(log, units)
  local kept = log.edges[log.longest].n
  local new = word(log, log.tick, log.total)
  log.newest, log.total = log.tick, log.total + units
  for _, edge in ipairs(log.edges) do
    if edge.n == 0 then edge.oldest = log.tick end
    edge.n = edge.n + 1
  end
  -- Mostly dead: a burst is over, and its memory is given back.
  local sparse = log.capacity > 64 and kept * 4 < log.capacity
  if kept == log.capacity or sparse then
    return rebuild(log, words(log, kept) .. new)
  end
  local slot = log.start + 8 * log.head
  log.head, log.n = (log.head + 1) % log.capacity, kept + 1
  call('SETRANGE', log.key, slot, new)
  call('SETRANGE', log.key, 0, header(log))
  if log.lapsed then return keep(log) end
  call('PEXPIRE', log.key, life_of(log, log.window, log.life))
end

-- Take a hit back: its word goes, those after it move up and count its units no more, and the header is written
-- anew. It is the one of its tick and its units; of several such, each is as good. Returns whether there is one.
local function strike(log, spec, units, tick)
  local unit, low, high, after = 2 ^ log.bits, 0, log.n + 1, log.total
  while high - low > 1 do
    local p = floor((low + high) / 2)
    local t, before = entry(log, p)
    if t <= tick then low = p else high, after = p, before end
  end
  local t, before = 0, 0
  if low > 0 then t, before = entry(log, low) end
  while low > 0 and t == tick and (after - before) % unit ~= units do
    low, after = low - 1, before
    if low > 0 then t, before = entry(log, low) end
  end
  if low == 0 or t ~= tick or t + ceil(log.window / 2 ^ log.shift) <= log.tick then return false end
  if log.n == 1 and log.holds.n == 0 then return call('DEL', log.key) == 1 end
  local newest = low == log.n and (low > 1 and entry(log, low - 1) or 0) or log.newest
  for p = low + 1, log.n do
    local slot = (log.head - log.n + p - 2) % log.capacity
    t, before = entry(log, p)
    call('SETRANGE', log.key, log.start + 8 * slot, word(log, t, before - units))
  end
  log.n, log.head, log.newest = log.n - 1, (log.head - 1) % log.capacity, newest
  log.total, log.hints, log.tick = (log.total - units) % unit, nil, max(ceil(now / 2 ^ log.shift), newest)
  for i, limit in ipairs(spec.limits) do log.edges[i] = edge_of(log, i, ceil(limit.window / 2 ^ log.shift)) end
  call('SETRANGE', log.key, 0, header(log))
  call('PEXPIRE', log.key, life_of(log, log.window, log.life))
  return true
end

-- Open a log for one decision.
local function open_log(key, spec)
  local log = load(key, spec)
  local scale = 2 ^ log.shift
  log.tick, log.longest = max(ceil(now / scale), log.newest), spec.longest.index
  local states = {}
  for i, limit in ipairs(spec.limits) do
    local edge = edge_of(log, i, ceil(limit.window / scale))
    log.edges[i] = edge
    local state = { used = (log.total - edge.before) % 2 ^ log.bits }
    function state.wait(target)
      if state.used <= target then return 0 end
      -- An entry leaves when it is exactly one window old; with coarse ticks, at the first moment that
      -- rounds up to that.
      local tick = target == 0 and log.newest or holder(log, edge, state.used - target)
      return (tick + edge.window - 1) * scale + 1 - now
    end
    states[i] = state
  end
  local function charge(units)
    -- Only what was spent beyond its hold can be more than a width holds: it counts as the most it holds.
    units = min(units, 2 ^ log.bits - 1 - states[log.longest].used)
    if units <= 0 then return end
    for _, state in ipairs(states) do state.used = state.used + units end
    append(log, units)
  end
  return {
    states = states, charge = charge, holds = log.holds, keep = function() keep(log) end,
    refund = function(units, at) return strike(log, spec, units, ceil(at / scale)) end,
  }
end

open.log = open_log
