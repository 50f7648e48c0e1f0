-- All that waits now is put aside under a key nobody claims from, in no time, however much it is. One that was put aside before
-- (its purge was interrupted) comes first: nothing is moved then.
-- KEYS 1 purging  2 pending  3 next     Returns how many are put aside.   Caller: an operator.
local length = redis.call('LLEN', KEYS[1])
if length > 0 then return length end
while redis.call('LMOVE', KEYS[3], KEYS[2], 'LEFT', 'RIGHT') do end
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('RENAME', KEYS[2], KEYS[1])
return redis.call('LLEN', KEYS[1])
