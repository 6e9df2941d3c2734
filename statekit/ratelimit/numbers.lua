-- Part of hit.lua: numbers as bytes, and how long keys live.
--
-- Takes no KEYS and no ARGV of its own: it reads `now` and `frozen`, which the script has named.

local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local char = string.char

-- Milliseconds a key must live so that it outlives `micros`; a clock that a test holds still gets an hour.
local function lifetime(micros)
  return string.format('%.0f', ceil(micros / 1000) + (frozen and 3600000 or 1))
end

-- Whole numbers as bytes, the highest first, without the `struct` library: test doubles do not have it.
local function u32(v)
  return char(floor(v / 16777216) % 256, floor(v / 65536) % 256, floor(v / 256) % 256, v % 256)
end

local function u64(v)
  return u32(floor(v / 4294967296)) .. u32(v % 4294967296)
end

-- The reply, from its numbers.
local function told(reply)
  if struct then return struct.pack('>' .. string.rep('I8', #reply), unpack(reply)) end
  for i, v in ipairs(reply) do reply[i] = u64(v) end
  return table.concat(reply)
end
