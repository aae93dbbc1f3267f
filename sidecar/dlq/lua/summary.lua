-- A queue at this moment.
-- KEYS: records, order by time
-- ARGV: microseconds of the oldest record that may stay
-- Returns {number of records, number of places, number of those past their age, microseconds of the oldest that is not}.
local oldest = redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return {
  redis.call('HLEN', KEYS[1]),
  redis.call('ZCARD', KEYS[2]),
  redis.call('ZCOUNT', KEYS[2], '-inf', '(' .. ARGV[1]),
  oldest[2] or '',
}
