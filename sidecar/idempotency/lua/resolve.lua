-- By an operator's word, complete a record whose outcome is unknown or whose lease has run out.
--
-- KEYS[1]  the record
-- ARGV     1 token that the operator's decision was made on  2 tail  3 time to live (milliseconds)
--
-- Returns 0 (no record), 1 (done), 2 (done, and someone waits), 3 (changed meanwhile, or not to be decided).
local head = redis.call('GETRANGE', KEYS[1], 0, 48)
if head == '' then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = string.sub(head, 4, 4)
local lapsed = state == 'E' and tonumber(string.sub(head, 24, 36)) <= now
if string.sub(head, 1, 3) ~= 'SI1' or string.sub(head, 8, 23) ~= ARGV[1] or (state ~= 'U' and not lapsed) then
    return 3
end
-- Nobody's token, so that a result that comes after all learns that it was not kept.
local nobody = string.rep('\0', 16)
local changed = 'SI1C' .. string.sub(head, 5, 5) .. '0-' .. nobody .. string.format('%013.0f', now)
redis.call('SET', KEYS[1], changed .. string.sub(head, 37, 49) .. ARGV[2], 'PX', ARGV[3])
return 1 + string.sub(head, 6, 6)
