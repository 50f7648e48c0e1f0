-- One dead letter gets other bytes and keeps its time of death.
-- KEYS 1 dead
-- ARGV 1 the dead letter  2 the element it becomes
-- Returns 1, or 0 if it was gone.   Caller: an operator.
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], score, ARGV[2])
return 1
