-- End a session, and leave a tombstone for a moment: a sign-in that is just being written under this name
-- finds it and stays unwritten, and a late request of the owner is not mistaken for a guessed id.
--
-- KEYS[1]  the record (hash)
-- ARGV[1]  now, µs; empty: the server's clock
-- ARGV[2]  time the tombstone stays, ms
--
-- Returns  {live, principal, before, after}
--          live is 1 if this ended a session, 0 if there was none (the view of a retired id is not one);
--          principal is empty if it had none;
--          before and after name the records it replaced and was replaced by, empty if none
local record = KEYS[1]
local now, tombstone_ms = tonumber(ARGV[1]), ARGV[2]

if not now then
  local clock = redis.call('TIME')
  now = clock[1] * 1000000 + clock[2]
end

local meta = redis.call('HMGET', record, 'touched', 'absolute', 'idle', 'retired', 'principal', 'before', 'after')
local touched, absolute, idle = tonumber(meta[1] or ''), tonumber(meta[2] or ''), tonumber(meta[3] or '')
local retired = meta[4]
local live = 0
if absolute and now < touched + idle and now < absolute and not retired then live = 1 end

-- Deleting works on a full store too, the tombstone need not: there, the racing sign-in cannot be written either.
redis.call('DEL', record)
local told = redis.pcall('HSET', record, 'ended', '1')
if type(told) == 'number' then redis.call('PEXPIRE', record, tombstone_ms) end
return {live, meta[5] or '', meta[6] or '', meta[7] or ''}
