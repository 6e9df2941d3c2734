-- Take names out of a principal's index, once their sessions are ended.
--
-- KEYS[1]  the index (sorted set: name of a record, scored by its absolute deadline in ms)
-- ARGV[1]  from here: names
--
-- Returns  how many were listed
local index = KEYS[1]
local names = ARGV

-- One at a time: unpack() has a limit. The set that becomes empty is removed by the server, and one that
-- stays keeps the deadline it has.
local removed = 0
for i = 1, #names do removed = removed + redis.call('ZREM', index, names[i]) end
return removed
