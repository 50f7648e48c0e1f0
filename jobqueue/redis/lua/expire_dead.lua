-- Dead letters that were kept long enough leave, oldest first.
-- KEYS 1 dead  2 stats     ARGV 1 how long they are kept, ms  2 limit     Returns how many.   Caller: a steward, once a minute.
local time = redis.call('TIME')
local before = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1])
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'LIMIT', 0, tonumber(ARGV[2]))
if #old > 0 then
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, #old - 1)
  redis.call('HINCRBY', KEYS[2], 'dead_expired', #old)
end
return #old
