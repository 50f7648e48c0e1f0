-- KEYS 1 leases     Returns {now ms, {worker, end of lease ms, ...}}.   Caller: a steward's sweep.
local time = redis.call('TIME')
return {time[1] * 1000 + math.floor(time[2] / 1000), redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')}
