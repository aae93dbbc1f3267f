-- Hold a record for a retry, or hold it longer.
-- KEYS: records, leases
-- ARGV: record id, token, milliseconds
-- Returns {'gone'}, {'held'} or {'leased', value}. A lease is stored as its end in milliseconds, a space, its token.
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value then return {'gone'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('HGET', KEYS[2], ARGV[1])
if lease then
  local ends, token = string.match(lease, '^(%d+) (.*)$')
  if tonumber(ends) > now and token ~= ARGV[2] then return {'held'} end
end
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f %s', now + ARGV[3], ARGV[2]))
return {'leased', value}
