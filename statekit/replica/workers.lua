-- List the readers alive, and the version each has confirmed. Read-only.
--
-- KEYS[1]  workers  sorted set: reader -> milliseconds of its last sign of life
-- KEYS[2]  acks     hash: reader -> "<epoch>:<version>" it has applied
-- ARGV[1]  lifetime milliseconds without a sign of life after which a reader counts as gone
-- ARGV[2]  now      microseconds since 1970; empty: the server's clock
--
-- Returns {name, "<epoch>:<version>", milliseconds since its last sign of life, name, ...}

local workers, acks = KEYS[1], KEYS[2]
local lifetime, now = tonumber(ARGV[1]), ARGV[2]

local now_ms
if now == '' then
  local time = redis.call('TIME')
  now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
else
  now_ms = math.floor(tonumber(now) / 1000)
end

local since = string.format('%.0f', now_ms - lifetime)
local alive = redis.call('ZRANGEBYSCORE', workers, since, '+inf', 'WITHSCORES')
local listed = {}
for index = 1, #alive, 2 do
  listed[#listed + 1] = alive[index]
  listed[#listed + 1] = redis.call('HGET', acks, alive[index]) or ':0'
  listed[#listed + 1] = math.max(0, now_ms - tonumber(alive[index + 1]))
end
return listed
