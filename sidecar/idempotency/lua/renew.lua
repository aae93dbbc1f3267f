-- Extend the lease of an executing record.
--
-- KEYS[1]  the record
-- ARGV     1 token  2 lease  3 lease and time to live  (milliseconds)
--
-- Returns 0 (no record), 1 (done), 3 (another token, or not executing any more).
local head = redis.call('GETRANGE', KEYS[1], 0, 48)
if head == '' then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if string.sub(head, 1, 4) ~= 'SI1E' or string.sub(head, 8, 23) ~= ARGV[1]
    or tonumber(string.sub(head, 24, 36)) <= now then
    return 3
end
redis.call('SETRANGE', KEYS[1], 23, string.format('%013.0f', now + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
