-- Put a whole data set back into a store that has lost it, from what a reader still shows.
--
-- KEYS[1]  meta     hash: epoch, version, held: that of the last write that left documents; kept for ever
-- KEYS[2]  docs     hash: name -> "<version>:<JSON text>"; kept for ever
-- ARGV[1]  epoch    a new one: what is put back may lack what others had
-- ARGV[2]  version  the reader's version; the data set begins one above it
-- ARGV[3]  channel  where readers listen
-- ARGV[4]  pairs    name, document, name, document, ... as JSON array
-- ARGV[5]  sharded  1 over a cluster that knows sharded publishing; else not given
--
-- Returns 1, or 0 if there is a data set already (somebody else was first): nothing is changed then.

local meta, docs = KEYS[1], KEYS[2]
local epoch, version, channel, pairs_json, sharded = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]

local known = redis.call('HMGET', meta, 'epoch', 'version', 'held')
local lost = known[3] and known[3] == known[2] and redis.call('EXISTS', docs) == 0
if known[1] and not lost then
  return 0
end
redis.call('DEL', docs)
local flat = cjson.decode(pairs_json)
for index = 1, #flat, 2 do
  redis.call('HSET', docs, flat[index], flat[index + 1])
end
-- Configuration must not expire: no TTL here, see write.lua.
local begins = string.format('%.0f', version + 1)
redis.call('HSET', meta, 'epoch', epoch, 'version', begins, 'held', #flat > 0 and begins or '0')
redis.call('PERSIST', meta)
redis.call('PERSIST', docs)
-- On a cluster it stays in the shard of these keys, see write.lua.
local told = sharded and redis.pcall('SPUBLISH', channel, '{"look":true}')
if type(told) ~= 'number' then redis.call('PUBLISH', channel, '{"look":true}') end
return 1
