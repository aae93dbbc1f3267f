-- Hand all that a consumer holds to nobody, so that others may take it at once, and strike the consumer off.
-- KEYS: stream
-- ARGV: group, consumer, name of the new holder, milliseconds that it shall have held them
-- Returns the number of entries.
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 100000, ARGV[2])
for _, entry in ipairs(pending) do
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, entry[1], 'IDLE', ARGV[4], 'JUSTID')
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return #pending
