-- Remove an executing record, also one whose lease has run out. Where the key had been sent before, a freed record
-- stays, so that sidecars which remember that do not take the key for one that the store has lost.
--
-- KEYS[1]  the record
-- ARGV     1 token
--
-- Returns 0 (no record), 1 (done), 2 (done, and someone waits), 3 (another token, or not executing).
local head = redis.call('GETRANGE', KEYS[1], 0, 48)
if head == '' then
    return 0
end
if string.sub(head, 1, 4) ~= 'SI1E' or string.sub(head, 8, 23) ~= ARGV[1] then
    return 3
end
if string.sub(head, 5, 5) == '1' then
    redis.call('SETRANGE', KEYS[1], 3, 'F')
else
    redis.call('DEL', KEYS[1])
end
return 1 + string.sub(head, 6, 6)
