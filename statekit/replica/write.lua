-- Write or delete one document: compare, store, count, remember, publish; all or nothing.
--
-- KEYS[1]  meta     hash: epoch, version, held: that of the last write that left documents; kept for ever
-- KEYS[2]  docs     hash: name -> "<version>:<JSON text>"; kept for ever
-- KEYS[3]  log      list, newest first: one JSON object a write, bounded by count; kept for ever
-- KEYS[4]  workers  sorted set: reader -> milliseconds of its last sign of life
-- ARGV[1]  name     of the document
-- ARGV[2]  text     its JSON; empty: delete it
-- ARGV[3]  expected version of the document, 0 for "there is none"; empty: whatever it is
-- ARGV[4]  who      JSON members '"name":...,"by":...,"reason":...' for the log
-- ARGV[5]  fresh    the epoch to begin if there is no data set; empty: answer {'empty'} and write nothing
-- ARGV[6]  keep     how many entries the log keeps
-- ARGV[7]  lifetime milliseconds without a sign of life after which a reader counts as gone
-- ARGV[8]  channel  where readers listen
-- ARGV[9]  now      microseconds since 1970; empty: the server's clock
-- ARGV[10] sharded  1 over a cluster that knows sharded publishing; else not given
--
-- Returns {'written', epoch, version, at in microseconds, live readers, at of the write before, 0 if not known}
--         {'conflict', version of the document}
--         {'absent'}  there is no document to delete; nothing written
--         {'empty'}   there is no data set; nothing written
--         {'lost'}    there is one, but its documents are gone: nothing written, see sync.lua
--
-- Configuration must not expire: meta, docs and log carry no TTL, and are PERSISTed in case something gave
-- them one. They are bounded by the number of documents and by `keep`.

local meta, docs, log, workers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, text, expected, who, fresh = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local keep, lifetime, channel, now = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9]
local sharded = ARGV[10]

-- On a cluster a message stays in the shard of these keys, where readers listen; else it goes to every node.
local function publish(message)
  local told = sharded and redis.pcall('SPUBLISH', channel, message)
  if type(told) ~= 'number' then redis.call('PUBLISH', channel, message) end
end

local at
if now == '' then
  local time = redis.call('TIME')
  at = time[1] * 1000000 + time[2]
else
  at = tonumber(now)
end

local known = redis.call('HMGET', meta, 'epoch', 'version', 'held')
local epoch = known[1]
if not epoch and fresh == '' then
  return {'empty'}
end
if epoch and known[3] and known[3] == known[2] and redis.call('EXISTS', docs) == 0 then
  return {'lost'}
end

-- What is there now: "<version>:<JSON text>". What is not that, another program left: it may be written over.
local there = redis.call('HGET', docs, name)
local had, before = string.match(there or '', '^(%d+):(.*)$')
had, before = had or '0', before or 'null'
if expected ~= '' and expected ~= had then
  return {'conflict', had}
end
if text == '' and not there then
  return {'absent'}
end

if not epoch then
  epoch = fresh
  redis.call('HSET', meta, 'epoch', epoch)
end
local version = string.format('%.0f', redis.call('HINCRBY', meta, 'version', 1))
if text == '' then
  redis.call('HDEL', docs, name)
  text = 'null'
else
  redis.call('HSET', docs, name, version .. ':' .. text)
end
-- Said of what is there, not of what is not: a release that does not say it loses nothing when it deletes the last.
if redis.call('EXISTS', docs) == 1 then redis.call('HSET', meta, 'held', version) end

-- The log's entry is the message too, except that readers need not be sent what was there before. It says when the
-- write before it happened: a reader that shows another one of the same version must not build on that.
local its, last, since = string.match(redis.call('LRANGE', log, 0, 0)[1] or '', '^{"epoch":"([^"]*)","version":(%d+),"at":(%d+),')
if its ~= epoch or tonumber(last) ~= tonumber(version) - 1 then since = '0' end
local stamp = string.format('%.0f', at)
local head = '{"epoch":"' .. epoch .. '","version":' .. version .. ',"at":' .. stamp
  .. (since == '0' and ',' or ',"since":' .. since .. ',') .. who
local tail = ',"after":' .. text .. '}'
redis.call('LPUSH', log, head .. ',"before":' .. before .. tail)
redis.call('LTRIM', log, 0, keep - 1)
redis.call('PERSIST', meta)
redis.call('PERSIST', docs)
redis.call('PERSIST', log)
publish(head .. tail)

local alive = string.format('%.0f', math.floor(at / 1000) - lifetime)
return {'written', epoch, version, stamp, redis.call('ZCOUNT', workers, alive, '+inf'), since}
