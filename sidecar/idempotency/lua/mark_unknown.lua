-- Record that the request was sent and its outcome is not known.
--
-- KEYS[1]  the record
-- ARGV     1 token  2 letter of the loss  3 time to live (milliseconds)
--
-- Returns 0 (no record), 1 (done), 2 (done, and someone waits), 3 (another token, or completed or freed).
local head = redis.call('GETRANGE', KEYS[1], 0, 48)
if head == '' then
    return 0
end
local state = string.sub(head, 4, 4)
if string.sub(head, 1, 3) ~= 'SI1' or string.sub(head, 8, 23) ~= ARGV[1] or state == 'C' or state == 'F' then
    return 3
end
if state == 'U' then
    return 1  -- the first reply was lost
end
local time = redis.call('TIME')
local now = string.format('%013.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('SETRANGE', KEYS[1], 3, 'U' .. string.sub(head, 5, 5) .. '0' .. ARGV[2] .. ARGV[1] .. now)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1 + string.sub(head, 6, 6)
