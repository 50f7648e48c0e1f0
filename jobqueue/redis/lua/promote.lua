-- Due jobs go from `scheduled` to the ready list, earliest first.
-- KEYS 1 pending  2 scheduled     ARGV 1 limit (<= 1000)     Returns {moved, next due time or 0, now}, ms.   Caller: a steward.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
if #due > 0 then
  redis.call('LPUSH', KEYS[1], unpack(due))
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, #due - 1)
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {#due, tonumber(first[2] or 0), now}
