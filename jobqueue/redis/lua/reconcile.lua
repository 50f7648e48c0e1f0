-- Refuses every trip up to `bar` for ever, then tells the last one applied and shows the list. A late one does not lower the bar of a later one.
-- KEYS 1 processing  2 workers     ARGV 1 worker  2 bar
-- Returns 'FENCED' | {applied, {elements, newest first}}.   Caller: a worker, for each of its queues, after any connection error.
local seen = redis.call('HMGET', KEYS[2], ARGV[1], ARGV[1] .. ':bar')
if not seen[1] then return 'FENCED' end
if tonumber(seen[2] or 0) < tonumber(ARGV[2]) then redis.call('HSET', KEYS[2], ARGV[1] .. ':bar', ARGV[2]) end
return {tonumber(seen[1]), redis.call('LRANGE', KEYS[1], 0, -1)}
