-- Clear away the oldest records past their age, a bounded number at once.
-- KEYS: records, order by time, leases
-- ARGV: microseconds of the oldest record that may stay, the bound
-- Returns how many there were.
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1], 'LIMIT', 0, tonumber(ARGV[2]))
if #old > 0 then
  redis.call('HDEL', KEYS[1], unpack(old))
  redis.call('HDEL', KEYS[3], unpack(old))
  redis.call('ZREM', KEYS[2], unpack(old))
end
return #old
