-- Part of hit.lua: another common case, GCRA for one caller, whose rows are those of its limits, without units held
-- and with a clock that goes on.
--
-- Takes no KEYS and no ARGV of its own: it reads those that hit.lua named. It answers as the general way does, in a
-- quarter of the time, or returns nothing before anything is written. What a row means is told in rows.lua.

local function straight_gcra(key, need, take, shadow, terms)
  local text = call('GET', key) or ''
  if string.find(text, '=', 1, true) then return end
  -- First look at all limits: what is owed now, and how long the call would have to wait.
  local number, limits, full = string.gmatch(text, '%d+'), {}, false
  need, take = tonumber(need), tonumber(take)
  for count, window in string.gmatch(terms, '(%d+) (%d+)') do
    count, window = tonumber(count), tonumber(window)
    local grains, debt = window > 8640000000000 and 1 or 1000, 0
    local emission = ceil(window * grains / max(count, 1))
    if text ~= '' then
      local own, rate, at = tonumber(number() or ''), tonumber(number() or ''), tonumber(number() or '')
      debt = tonumber(number() or '')
      -- Limits that were changed since, or a clock that was set back, are for the general way.
      if own ~= window or rate ~= emission or not debt or at > now then return end
      debt = max(0, debt - (now - at) * grains)
    end
    local excess = debt - (count - need) * emission
    local wait = need > count and -1 or excess > 0 and ceil(excess / grains) or 0
    full = full or wait ~= 0
    limits[#limits + 1] = { count, window, grains, emission, debt, wait }
  end
  if number() then return end

  -- Then charge all or none, and tell where each stands.
  local reply, rows, longest = { full and shadow == '0' and 0 or 1, now }, {}, 0
  local charged = take > 0 and not full
  for i, limit in ipairs(limits) do
    local count, window, grains, emission, debt, wait = unpack(limit)
    if charged then debt = min(debt + take * emission, 9e15) end
    local used, reset, at = ceil(debt / emission), ceil(debt / grains), #reply
    reply[at + 1], reply[at + 2] = max(0, count - used), wait
    -- One more unit comes free when one less is used.
    reply[at + 3] = max(0, ceil((debt - max(0, min(used, count) - 1) * emission) / grains))
    reply[at + 4] = reset
    rows[i] = string.format('%.0f %.0f %.0f %.0f', window, emission, now, debt)
    longest = max(longest, reset)
  end
  if charged then call('SET', key, table.concat(rows, ' '), 'PX', lifetime(longest)) end
  return told(reply)
end
