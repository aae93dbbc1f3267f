-- By an operator's word, free a key whose outcome is unknown or whose lease has run out. The freed record lasts as
-- long as the record would have lasted.
--
-- KEYS[1]  the record
--
-- Returns 0 (no record), 1 (done), 2 (done, and someone waits), 3 (not to be decided).
local head = redis.call('GETRANGE', KEYS[1], 0, 48)
if head == '' then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = string.sub(head, 4, 4)
if string.sub(head, 1, 3) ~= 'SI1' then
    return 3
end
if state == 'F' then
    return 0
end
if state ~= 'U' and not (state == 'E' and tonumber(string.sub(head, 24, 36)) <= now) then
    return 3
end
redis.call('SETRANGE', KEYS[1], 3, 'F')
return 1 + string.sub(head, 6, 6)
