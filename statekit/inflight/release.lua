-- Give slots back. A member carries its fence: nobody can give back a slot that was taken after his own was lost.
--
-- KEYS[1]  zset, one member a slot, as acquire.lua writes it; its TTL stays as it is
-- ARGV[1]  channel on which a free slot is announced, if somebody waits for one
-- ARGV[2]  now: microseconds, or empty for the server's clock
-- ARGV[3]  from here: the members; one with the fence 0 is looked for by what follows the fence, for whoever
--          asked for a slot and never heard whether he got it
--
-- Returns  for each member 1 if its slot was given back, else 0
local key = KEYS[1]
local channel, now = ARGV[1], tonumber(ARGV[2])
local members = ARGV
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function found(member)
  local token = string.match(member, '^0( .*)$')
  if not token then return member end
  -- At most `limit` slots, and only after a round trip that was cut short.
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', key, '0', '+inf')) do
    if string.sub(one, -#token) == token then return one end
  end
  return member
end

local reply, freed = {}, 0
for i = 3, #members do
  local member = found(members[i])
  local ends = redis.call('ZSCORE', key, member)
  freed = freed + redis.call('ZREM', key, member)
  -- One whose lease had run out was not its holder's any more.
  reply[#reply + 1] = ends and tonumber(ends) > now and 1 or 0
end

-- Only a shortcut: without it (or where publishing is forbidden) those who wait ask again by themselves.
local until_when = redis.call('ZSCORE', key, '?')
if freed > 0 and until_when and -tonumber(until_when) > now then
  redis.pcall('PUBLISH', channel, key)
end
return reply
