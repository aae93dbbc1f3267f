-- Write a changed record, or remove it where no value is given, unless somebody else's retry holds it.
-- KEYS: records, leases, order by time, the correlation id's order
-- ARGV: record id, token of the caller's lease or empty, value or empty
-- Returns 'gone', 'held' or 'done'. The caller's lease ends.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 'gone' end
local lease = redis.call('HGET', KEYS[2], ARGV[1])
if lease then
  local time = redis.call('TIME')
  local ends, token = string.match(lease, '^(%d+) (.*)$')
  if tonumber(ends) > time[1] * 1000 + math.floor(time[2] / 1000) and token ~= ARGV[2] then return 'held' end
  redis.call('HDEL', KEYS[2], ARGV[1])
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('ZREM', KEYS[4], ARGV[1])
end
return 'done'
