-- Lead a group, or go on leading it.
-- KEYS: leader
-- ARGV: consumer, milliseconds; 0 resigns
-- Returns 1 if the consumer leads.
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
