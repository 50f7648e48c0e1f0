-- A job that still waits is taken out of the ready list (or of `next`); its unique key is freed, if still its own.
-- KEYS 1 pending or next  2 stats  3 unique key (counts only if ARGV 3 says so)
-- ARGV 1 element  2 id  3 has a unique key 1/0     Returns 1, or 0 if it was not there any more.   Caller: an operator.
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
if ARGV[3] == '1' and redis.call('GET', KEYS[3]) == ARGV[2] then redis.call('DEL', KEYS[3]) end
redis.call('HINCRBY', KEYS[2], 'cancelled', 1)
return 1
