-- Refuses every trip up to `bar` for ever, then tells the last one applied and shows the list.
-- KEYS 1 processing  2 workers     ARGV 1 worker  2 bar
-- Returns 'FENCED' | {applied, {elements, newest first}}.   Caller: a worker, for each of its queues, after any connection error.
local applied = redis.call('HGET', KEYS[2], ARGV[1])
if not applied then return 'FENCED' end
redis.call('HSET', KEYS[2], ARGV[1] .. ':bar', ARGV[2])
return {tonumber(applied), redis.call('LRANGE', KEYS[1], 0, -1)}
