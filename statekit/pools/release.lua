-- Give back a process's whole share, because it has closed all its connections and leaves the fleet.
--
-- KEYS[1]  hash of the fleet, one field a process, as renew.lua writes it; its TTL stays as it is
-- ARGV[1]  worker: the process's name in the fleet
-- ARGV[2]  seq: number of this report; a report overtaken on its way changes nothing
--
-- Returns  1 if a share was given back, else 0
local key = KEYS[1]
local worker, seq = ARGV[1], tonumber(ARGV[2])

local stored = redis.call('HGET', key, worker)
if not stored then return 0 end
-- seq is the eighth number of the record
local last = tonumber(string.match(stored, '^%d+ %d+ %d+ %d+ %d+ %d+ %d+ (%d+)'))
if seq <= last then return 0 end
return redis.call('HDEL', key, worker)
