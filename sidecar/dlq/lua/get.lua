-- One record, and whether a retry holds it.
-- KEYS: records, leases, order
-- ARGV: record id, microseconds of the oldest that counts: what is older may not have been cleared away yet
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value then return {} end
local place = redis.call('ZSCORE', KEYS[3], ARGV[1])
if place and tonumber(place) < tonumber(ARGV[2]) then return {} end
local now = redis.call('TIME')
local lease = redis.call('HGET', KEYS[2], ARGV[1])
local held = lease and tonumber(string.match(lease, '^%d+')) > now[1] * 1000 + math.floor(now[2] / 1000)
return {value, held and 1 or 0}
