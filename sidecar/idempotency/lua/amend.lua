-- Write a new tail, with the fingerprint that is known now, into a record that is not completed.
--
-- KEYS[1]  the record
-- ARGV     1 token  2 tail
--
-- Returns 0 (no record), 1 (done), 3 (another token, or completed or freed).
local head = redis.call('GETRANGE', KEYS[1], 0, 48)
if head == '' then
    return 0
end
local state = string.sub(head, 4, 4)
if string.sub(head, 1, 3) ~= 'SI1' or string.sub(head, 8, 23) ~= ARGV[1] or (state ~= 'E' and state ~= 'U') then
    return 3
end
redis.call('SET', KEYS[1], head .. ARGV[2], 'KEEPTTL')
return 1
