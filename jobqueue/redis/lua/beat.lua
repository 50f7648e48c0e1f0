-- Renews the leases of workers that are registered, and of no others: a lease must never bring a fenced worker back.
-- KEYS 1 workers  2 leases     ARGV 1 lease ms, then workers     Returns how many were renewed.   Caller: a steward.
local time = redis.call('TIME')
local ends, n = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1]), 0
for i = 2, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    redis.call('ZADD', KEYS[2], ends, ARGV[i])
    n = n + 1
  end
end
return n
