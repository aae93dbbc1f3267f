-- Keep a response.
--
-- KEYS[1]  the record
-- ARGV     1 token  2 tail  3 time to live (milliseconds)
--
-- Returns 0 (no record), 1 (done), 2 (done, and someone waits), 3 (another token, or freed).
local head = redis.call('GETRANGE', KEYS[1], 0, 48)
if head == '' then
    return 0
end
local state = string.sub(head, 4, 4)
if string.sub(head, 1, 3) ~= 'SI1' or string.sub(head, 8, 23) ~= ARGV[1] or state == 'F' then
    return 3
end
if state == 'C' then
    return 1  -- the first reply was lost
end
local time = redis.call('TIME')
local now = string.format('%013.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local changed = 'SI1C' .. string.sub(head, 5, 5) .. '0-' .. ARGV[1] .. now .. string.sub(head, 37, 49)
redis.call('SET', KEYS[1], changed .. ARGV[2], 'PX', ARGV[3])
return 1 + string.sub(head, 6, 6)
