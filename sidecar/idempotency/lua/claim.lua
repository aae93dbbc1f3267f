-- Put an executing record in an empty place, or return what is there.
--
-- KEYS[1]  the record
-- ARGV     1 token  2 tail  3 lease  4 lease and time to live  5 token that may be taken over, or ""
--          6 "1" to be told of the settlement, else "0"  7 latest moment for the claim  (milliseconds)
--
-- Returns 1 (granted), 2 (granted; the key had been sent before), {now, record}, or {now} when it is too late:
-- whoever asked has stopped waiting, so nothing may be left behind.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local record = redis.call('GET', KEYS[1])
local again = '0'

if record then
    if string.sub(record, 1, 3) ~= 'SI1' then
        return {now, record}
    end
    local state = string.sub(record, 4, 4)
    local token = string.sub(record, 8, 23)
    if token == ARGV[1] and state ~= 'F' then
        return 1 + string.sub(record, 5, 5)  -- the first reply was lost
    end
    local lapsed = state == 'E' and tonumber(string.sub(record, 24, 36)) <= now
    local over = token == ARGV[5] and (state == 'U' or lapsed)
    if state ~= 'F' and not over then
        if state == 'E' and ARGV[6] == '1' and string.sub(record, 6, 6) == '0' then
            redis.call('SETRANGE', KEYS[1], 5, '1')
        end
        return {now, record}
    end
    again = '1'
end

if now > tonumber(ARGV[7]) then
    return {now}
end
local lease_until = string.format('%013.0f', now + ARGV[3])
local head = 'SI1E' .. again .. '0-' .. ARGV[1] .. lease_until .. string.format('%013.0f', now)
redis.call('SET', KEYS[1], head .. ARGV[2], 'PX', ARGV[4])
return 1 + again
