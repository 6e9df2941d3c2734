-- Read what a list of sessions shows of one, without its data and without renewing its deadline.
--
-- KEYS[1]  the record (hash)
-- ARGV[1]  now, µs; empty: the server's clock
--
-- Returns  {created, touched, absolute, idle}  as text, µs
--          {}  if the session is unknown, expired, ended or retired
local record = KEYS[1]
local now = tonumber(ARGV[1])

if not now then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

-- The idle time is the record's own: a list may be read by a process that has other settings.
local meta = redis.call('HMGET', record, 'created', 'touched', 'absolute', 'idle', 'retired', 'ended')
local created, touched, absolute, idle, retired, ended = meta[1], meta[2], meta[3], meta[4], meta[5], meta[6]

-- A retired record is the past of a session that is listed under its new name.
if not absolute or retired or ended then return {} end
if now >= tonumber(touched) + tonumber(idle) or now >= tonumber(absolute) then return {} end
return {created, touched, absolute, idle}
