-- Bars a dead worker's trips from this queue for ever and shows what it held. Can be repeated: the last applied trip is kept until recover is through.
-- KEYS 1 processing  2 workers     ARGV 1 worker     Returns {applied or -1, {elements, newest first}}.   Caller: a steward, before recover.
local w = ARGV[1]
local applied = redis.call('HGET', KEYS[2], w)
if applied then
  redis.call('HSET', KEYS[2], w .. ':was', applied)
  redis.call('HDEL', KEYS[2], w, w .. ':bar')
else
  applied = redis.call('HGET', KEYS[2], w .. ':was') or -1
end
return {tonumber(applied), redis.call('LRANGE', KEYS[1], 0, -1)}
