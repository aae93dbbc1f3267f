-- Some records in the order of storing.
-- KEYS: records, the order to follow, leases
-- ARGV: 'newest' or 'oldest' first, lowest and highest microseconds, microseconds and id of the place to go on after
--       (or two empty words), number of records, number of bytes (of which there is always one record, however large)
-- Returns {1 if more follow, then for each record: id, microseconds, value, 1 if a retry holds it}.
local newest = ARGV[1] == 'newest'
local low, high, after, after_id = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local wanted = tonumber(ARGV[6])
local skipped = 0
if after ~= '' then
  if newest then high = after else low = after end
  -- Those of the very same microsecond stand in the order of their ids; some of them have been given before.
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], after, after)) do
    if (newest and id >= after_id) or (not newest and id <= after_id) then skipped = skipped + 1 end
  end
end
local command, from, to = 'ZRANGEBYSCORE', low, high
if newest then command, from, to = 'ZREVRANGEBYSCORE', high, low end
local found = redis.call(command, KEYS[2], from, to, 'WITHSCORES', 'LIMIT', skipped, wanted + 1)
local answer = {#found / 2 > wanted and 1 or 0}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local bytes = 0
for i = 1, math.min(#found, 2 * wanted), 2 do
  local id = found[i]
  local value = redis.call('HGET', KEYS[1], id) or ''
  bytes = bytes + #value
  if bytes > tonumber(ARGV[7]) and i > 1 then
    answer[1] = 1
    break
  end
  local lease = redis.call('HGET', KEYS[3], id)
  local held = lease and tonumber(string.match(lease, '^%d+')) > now
  answer[#answer + 1] = id
  answer[#answer + 1] = found[i + 1]
  answer[#answer + 1] = value
  answer[#answer + 1] = held and 1 or 0
end
return answer
