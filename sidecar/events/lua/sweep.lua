-- Trim what every group of a stream has done, and strike off consumers of one group that hold nothing and are long gone.
-- KEYS: stream
-- ARGV: group, milliseconds of silence after which a consumer is gone
-- Returns the number of entries that were trimmed.
local function fields(reply)
  local table = {}
  for i = 1, #reply, 2 do table[reply[i]] = reply[i + 1] end
  return table
end

local function before(a, b)
  local a_time, a_sequence = string.match(a, '^(%d+)-(%d+)$')
  local b_time, b_sequence = string.match(b, '^(%d+)-(%d+)$')
  if a_time ~= b_time then return tonumber(a_time) < tonumber(b_time) end
  return tonumber(a_sequence) < tonumber(b_sequence)
end

for _, reply in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = fields(reply)
  if consumer['pending'] == 0 and consumer['idle'] > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer['name'])
  end
end

local needed
for _, reply in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = fields(reply)
  local first = group['last-delivered-id']
  if group['pending'] > 0 then first = redis.call('XPENDING', KEYS[1], group['name'])[2] end
  if not needed or before(first, needed) then needed = first end
end
if not needed then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', needed)
