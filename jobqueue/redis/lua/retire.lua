-- Takes a worker out of one queue, unless its list still holds something.
-- KEYS 1 processing  2 workers  3 leases     ARGV 1 worker     Returns 1, or 0 if nothing was done.   Caller: the worker itself, a steward.
if redis.call('LLEN', KEYS[1]) > 0 then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1], ARGV[1] .. ':bar', ARGV[1] .. ':was')
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
