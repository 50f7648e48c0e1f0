-- From when on a cron entry's ticks count: its last tick; or now, if it is new, has another schedule, or was ticked further ahead than clocks may be set back.
-- KEYS 1 cron     ARGV 1 schedule  2 ms a tick may lie ahead  3 s for which it is remembered     Returns {last, now}, ms.   Caller: a steward.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last, schedule = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (.*)$')
last = tonumber(last)
if last and schedule == ARGV[1] and last <= now + tonumber(ARGV[2]) then
  redis.call('EXPIRE', KEYS[1], ARGV[3])
  return {last, now}
end
redis.call('SET', KEYS[1], string.format('%.0f %s', now, ARGV[1]), 'EX', ARGV[3])
return {now, now}
