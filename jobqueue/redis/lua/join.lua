-- Registers a worker in one queue: from here on it may claim, and somebody has to empty its list one day.
-- KEYS 1 workers  2 leases     ARGV 1 worker  2 lease ms     Returns 1 if it was new, else 0.   Caller: a worker, before its first trip.
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2]), ARGV[1])
return redis.call('HSETNX', KEYS[1], ARGV[1], 0)
