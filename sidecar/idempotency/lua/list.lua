-- Look at some keys and return the beginnings of the records among them that are in a given state.
--
-- ARGV     1 cursor of SCAN  2 pattern of the keys  3 about how many keys to look at
--          4 letters of the states that are wanted  5 how many bytes of each record to return
--
-- Returns {now in milliseconds, next cursor, key, beginning, key, beginning, ...}.
local time = redis.call('TIME')
local page = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3], 'TYPE', 'string')
local found = {time[1] * 1000 + math.floor(time[2] / 1000), page[1]}
for _, key in ipairs(page[2]) do
    local beginning = redis.call('GETRANGE', key, 0, ARGV[5] - 1)
    local state = string.sub(beginning, 4, 4)
    if string.sub(beginning, 1, 2) == 'SI' and state ~= '' and string.find(ARGV[4], state, 1, true) then
        found[#found + 1] = key
        found[#found + 1] = beginning
    end
end
return found
