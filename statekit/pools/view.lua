-- Show a fleet: every live process's share, and what it last reported. Writes nothing.
--
-- KEYS[1]  hash of the fleet, one field a process, as renew.lua writes it
-- ARGV[1]  now: microseconds, or empty for the server's clock
--
-- Returns  {now, settling, worker, record, worker, record, ...} sorted by worker, without those whose lease
--          has run out; settling is 1 while nothing is granted because the record was lost, else 0
local key = KEYS[1]
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local records, workers, settling = {}, {}, 0
local stored = redis.call('HGETALL', key)
for i = 1, #stored, 2 do
  local name, record = stored[i], stored[i + 1]
  if name == '' then
    -- the second number: until when nothing is granted
    if now < tonumber(string.match(record, ' (%d+)')) then settling = 1 end
  elseif tonumber(string.match(record, '^%d+ %d+ %d+ %d+ %d+ (%d+)')) > now then
    workers[#workers + 1] = name
    records[name] = record
  end
end
table.sort(workers)

local reply = {now, settling}
for _, name in ipairs(workers) do
  reply[#reply + 1] = name
  reply[#reply + 1] = records[name]
end
return reply
