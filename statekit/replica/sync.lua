-- Tell a reader what it lacks, and note which version it has: one script for the first load, for catching
-- up after a gap, for acknowledging a version and for the heartbeat.
--
-- KEYS[1]  meta     hash: epoch, version, held: that of the last write that left documents; kept for ever
-- KEYS[2]  docs     hash: name -> "<version>:<JSON text>"; kept for ever
-- KEYS[3]  log      list, newest first: one JSON object a write, the last 1,000; kept for ever
-- KEYS[4]  workers  sorted set: reader -> milliseconds of its last sign of life; expires
-- KEYS[5]  acks     hash: reader -> "<epoch>:<version>" it has applied; expires
-- ARGV[1]  worker   the reader's name
-- ARGV[2]  epoch    of the snapshot it shows; empty if it has none
-- ARGV[3]  version  of that snapshot
-- ARGV[4]  lifetime milliseconds without a sign of life after which a reader counts as gone; 0: it leaves
-- ARGV[5]  fresh    the epoch to begin if the data set turns out to be older than the reader's
-- ARGV[6]  channel  where readers listen
-- ARGV[7]  now      microseconds since 1970; empty: the server's clock
-- ARGV[8]  at       microseconds of the last write in that snapshot; 0 if the reader does not know
-- ARGV[9]  sharded  1 over a cluster that knows sharded publishing; else not given
--
-- Returns {'same',  epoch, version, clock}                       the reader has it all
--         {'delta', epoch, version, {entry, ...}, clock}         entries of the log, newest first
--         {'full',  epoch, version, {name, doc, ...}, at, clock} everything; at: of the last write, 0 if not known
--         {'empty', clock}                                       no data set here; not the same as an empty one
--         {'lost',  epoch, version, clock}                       there is one, but its documents are gone
-- where clock is now in microseconds, for what all readers shall do at the same moment.

local meta, docs, log, workers, acks = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local worker, epoch, claimed = ARGV[1], ARGV[2], ARGV[3]
local lifetime, fresh, channel, now, at, sharded = tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]

local version = tonumber(claimed)
if now == '' then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local clock, now_ms = string.format('%.0f', tonumber(now)), math.floor(tonumber(now) / 1000)

-- Presence is written with pcall: a server that is out of memory or read-only still answers its readers.
if lifetime == 0 then
  redis.pcall('ZREM', workers, worker)
  redis.pcall('HDEL', acks, worker)
else
  redis.pcall('ZADD', workers, string.format('%.0f', now_ms), worker)
  redis.pcall('HSET', acks, worker, epoch .. ':' .. claimed)
  redis.pcall('PEXPIRE', workers, lifetime * 2)
  redis.pcall('PEXPIRE', acks, lifetime * 2)
  -- A sign of life from the future was given before the clock was set back: it counts from now.
  local early = redis.call('ZRANGEBYSCORE', workers, string.format('(%.0f', now_ms + lifetime), '+inf')
  for _, name in ipairs(early) do redis.pcall('ZADD', workers, string.format('%.0f', now_ms), name) end
  -- Who has been silent for a lifetime is gone: killed, or cut off.
  local gone = redis.call('ZRANGEBYSCORE', workers, '-inf', string.format('(%.0f', now_ms - lifetime))
  for _, name in ipairs(gone) do
    redis.pcall('ZREM', workers, name)
    redis.pcall('HDEL', acks, name)
  end
end

local known = redis.call('HMGET', meta, 'epoch', 'version', 'held')
if not known[1] then
  return {'empty', clock}
end
-- An eviction takes one key and leaves its neighbours: "no documents" would then turn everything off.
if known[3] and known[3] == known[2] and redis.call('EXISTS', docs) == 0 then
  return {'lost', known[1], known[2], clock}
end

-- When a version was written, if the log still says so.
local latest = tonumber(known[2])
local function written(number)
  local place = string.format('%.0f', math.max(0, latest - number))
  local entry = number <= latest and redis.call('LRANGE', log, place, place)[1]
  local its, last, moment = string.match(entry or '', '^{"epoch":"([^"]*)","version":(%d+),"at":(%d+),')
  return its == known[1] and tonumber(last) == number and moment or '0'
end

local before = at ~= '0' and known[1] == epoch and written(version)
if known[1] == epoch and version > latest or before and before ~= '0' and before ~= at then
  -- The store went back in time (a restored backup, a failover to a lagging replica), and perhaps forward again:
  -- the reader's version was written at another moment. What it holds is a different data set from here on, so it
  -- gets a new epoch, and every reader takes it over whole.
  latest = math.max(version, latest) + 1
  known[1], known[2] = fresh, string.format('%.0f', latest)
  redis.call('HSET', meta, 'epoch', fresh, 'version', known[2])
  if redis.call('EXISTS', docs) == 1 then redis.call('HSET', meta, 'held', known[2]) end
  redis.call('PERSIST', meta)
  -- On a cluster it stays in the shard of these keys, see write.lua.
  local told = sharded and redis.pcall('SPUBLISH', channel, '{"look":true}')
  if type(told) ~= 'number' then redis.call('PUBLISH', channel, '{"look":true}') end
end

if known[1] == epoch then
  if version == latest then
    return {'same', known[1], known[2], clock}
  end
  local missing = latest - version
  local entries = redis.call('LRANGE', log, 0, missing - 1)
  if #entries == missing then
    return {'delta', known[1], known[2], entries, clock}
  end
end
return {'full', known[1], known[2], redis.call('HGETALL', docs), written(latest), clock}
