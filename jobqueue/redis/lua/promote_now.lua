-- One scheduled job goes to the ready list although it is not due.
-- KEYS 1 scheduled  2 pending     ARGV 1 element     Returns 1, or 0 if it was not there any more.   Caller: an operator.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
