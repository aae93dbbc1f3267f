-- Store a record, or replace the one with the same id, together with its places in both orders.
-- KEYS: records, order by time, the correlation id's order
-- ARGV: record id, value, microseconds of storing, milliseconds that the correlation id's order lives
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return 1
