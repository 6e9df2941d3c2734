-- Renew a process's lease on its share of a pool's budget: book what it keeps, grant what it may have more.
--
-- One budget is split among all live processes. A process reports how many connections it keeps (never more
-- than it holds open) and how many it wants; it is granted more only out of what nobody holds, so the sum of
-- live shares never passes the budget. Who must shrink is told so; it closes first, and reports it next time.
--
-- KEYS[1]   hash, one field a process: "share open in_use waiting want expires budget seq grew hungry";
--           the field "" holds "epoch settled last": when this record began, until when nothing is granted,
--           and when it was last written.
--           Also the channel on which those with a surplus are called, by name, when somebody begins to wait
-- ARGV[1]   worker: the process's name in the fleet
-- ARGV[2]   seq: number of this report, growing; a report overtaken on its way changes nothing
-- ARGV[3]   epoch: the record the process last saw, 0 if it is new
-- ARGV[4]   keep: connections it holds, those being opened or closed included
-- ARGV[5]   in_use
-- ARGV[6]   waiting: callers without a connection
-- ARGV[7]   want: connections it could use now, at most its own cap
-- ARGV[8]   budget: the fleet's cap as this process was told; the lowest live one binds
-- ARGV[9]   lease: microseconds the share stays booked without another report
-- ARGV[10]  slice: microseconds a process may keep its only connection while others have none
-- ARGV[11]  now: microseconds, or empty for the server's clock
-- ARGV[12]  sharded: 1 over a cluster that knows sharded publishing; else not given
--
-- Returns   {"renewed", share, surplus, epoch, budget, taken, processes, settling} or {"overtaken"};
--           surplus: how many of the share to give back; taken: the sum of the other processes' shares
local key = KEYS[1]
local worker, seq, epoch = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local keep, in_use, waiting, want = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local budget, lease, slice, now = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local sharded = ARGV[12]
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function int(number) return string.format('%.0f', number) end
local function numbers(text)
  local n = {}
  for number in string.gmatch(text or '', '%d+') do n[#n + 1] = tonumber(number) end
  return n
end

local head = numbers(redis.call('HGET', key, ''))
local born, settled, back = head[1], head[2] or 0, (head[3] or 0) - now
-- What was written later than now was written before the clock was set back: all moments in here move back with
-- it. Else the dead would keep their shares, and nothing be granted, for as long as it was set back.
if back < 1000000 then back = 0 end
if back > 0 then
  settled = math.max(0, settled - back)
  redis.call('HSET', key, '', int(born) .. ' ' .. int(settled) .. ' ' .. int(now))
end

-- Read everybody; drop those whose lease has run out.
local members, me = {}, nil
local stored = redis.call('HGETALL', key)
for i = 1, #stored, 2 do
  local n = numbers(stored[i + 1])
  if back > 0 and stored[i] ~= '' then
    for _, moment in ipairs({6, 9, 10}) do n[moment] = math.max(0, (n[moment] or 0) - back) end
    local moved = {}
    for place, number in ipairs(n) do moved[place] = int(number) end
    redis.call('HSET', key, stored[i], table.concat(moved, ' '))
  end
  if stored[i] == '' then -- read above
  elseif n[6] <= now then
    redis.call('HDEL', key, stored[i])
  else
    local member = {name = stored[i], share = n[1], want = n[5], expires = n[6], budget = n[7], seq = n[8],
      grew = n[9], hungry = n[10]}
    members[#members + 1] = member
    if stored[i] == worker then me = member end
  end
end
if me and seq <= me.seq then return {'overtaken'} end

-- A process that knows another epoch saw this record lost (a flush, a restart without persistence). Others may
-- hold connections not booked yet, so nothing is granted until one lease after the record began anew.
if not born then
  born, settled = now, 0
  if epoch > 0 then settled = born + lease end
elseif epoch > 0 and epoch ~= born and not me then
  settled = math.max(settled, math.min(born, now) + lease) -- born is a name, it does not move back
end

if not me then
  me = {name = worker, share = 0, grew = 0, hungry = 0}
  members[#members + 1] = me
end
local before = me.share
me.want, me.expires, me.budget, me.seq = want, now + lease, budget, seq
table.sort(members, function(a, b) return a.name < b.name end)

local others, ttl = 0, 0
for _, member in ipairs(members) do
  budget = math.min(budget, member.budget)
  ttl = math.max(ttl, member.expires - now)
  if member ~= me then others = others + member.share end
end

-- What it keeps is booked as reported, unless its lease had run out and others have been granted it since.
me.share = math.max(0, math.min(keep, math.max(before, budget - others)))
-- hungry: since when it has had less than it wants; who has just had its turn begins anew.
if want <= me.share then me.hungry = 0 elseif me.hungry == 0 or me.share < before then me.hungry = now end

-- Fair shares: fill the smallest wants first (max-min fairness), then hand out the remainder one by one.
local queue = {}
for i, member in ipairs(members) do queue[i] = member end
table.sort(queue, function(a, b) if a.want ~= b.want then return a.want < b.want end return a.name < b.name end)
local left, level, rest = budget, nil, {}
for i, member in ipairs(queue) do
  local each = level or math.floor(left / (#queue - i + 1))
  if not level and member.want <= each then
    member.fair = member.want
    left = left - member.want
  else
    level = each
    member.fair = level
    rest[#rest + 1] = member
  end
end
left = left - #rest * (level or 0)

-- The remainder goes to who has it already, so that nothing moves without need. With fewer connections than
-- processes (level 0) it goes round instead: who has had one for a slice yields to who has waited longest.
for _, member in ipairs(rest) do
  if level > 0 then
    member.rank, member.order = member.share > level and 0 or 1, member.hungry
  elseif member.share > 0 then
    member.rank, member.order = now - member.grew < slice and 0 or 2, -member.grew
  else
    member.rank, member.order = 1, member.hungry
  end
end
table.sort(rest, function(a, b)
  if a.rank ~= b.rank then return a.rank < b.rank end
  if a.order ~= b.order then return a.order < b.order end
  return a.name < b.name
end)
for _, member in ipairs(rest) do
  if left > 0 then member.fair, left = member.fair + 1, left - 1 end
end

-- Grow up to the fair share out of what nobody holds; what others have been due for longer is kept for them,
-- or who gives a connection back would be the first to get it again.
local free, more = budget - others - me.share, math.min(want, me.fair) - me.share
for _, member in ipairs(members) do
  local due = member.fair - member.share
  local earlier = member.hungry < me.hungry or (member.hungry == me.hungry and member.name < me.name)
  if member ~= me and due > 0 and earlier then free = free - due end
end
local settling = now < settled
more = math.min(more, free)
if more > 0 and not settling then
  me.share, me.grew = me.share + more, now
  me.hungry = want <= me.share and 0 or now
end

-- What is left when all wants are met stays with who holds it unused; the order is fixed, so that all agree.
local surplus, called = 0, {}
for _, member in ipairs(members) do
  local over = math.max(0, member.share - member.fair)
  local kept = math.min(over, left)
  left = left - kept
  if member == me then
    surplus = over - kept
  elseif over > kept then
    called[#called + 1] = member.name
  end
end

redis.call('HSET', key, '', int(born) .. ' ' .. int(settled) .. ' ' .. int(now), worker, table.concat({
  int(me.share), int(keep), int(in_use), int(waiting), int(want), int(me.expires), int(me.budget), int(seq),
  int(me.grew), int(me.hungry)}, ' '))
redis.call('PEXPIRE', key, math.ceil(ttl / 500))
-- Only a shortcut, and only once: without it (or where publishing is forbidden) they learn of it by their next report.
-- On a cluster the call stays in the shard of this key; where that is not known, it goes to every node.
if me.hungry == now and #called > 0 then
  local names = table.concat(called, ' ')
  local told = sharded and redis.pcall('SPUBLISH', key, names)
  if type(told) ~= 'number' then redis.pcall('PUBLISH', key, names) end
end
return {'renewed', me.share, surplus, born, budget, others, #members, settling and 1 or 0}
