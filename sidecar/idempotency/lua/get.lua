-- Return {now in milliseconds, the record or nothing}.
--
-- KEYS[1]  the record
local time = redis.call('TIME')
return {time[1] * 1000 + math.floor(time[2] / 1000), redis.call('GET', KEYS[1])}
