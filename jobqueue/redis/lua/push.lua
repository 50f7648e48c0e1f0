-- Many plain jobs into one queue at once: as many of them, in order, as its length limit lets in.
-- KEYS 1 pending  2 stats     ARGV 1 max_length or '', then elements (<= 4000)     Returns {how many are in, length before}.   Caller: a producer.
local length, n = redis.call('LLEN', KEYS[1]), #ARGV - 1
if ARGV[1] ~= '' then n = math.max(0, math.min(n, tonumber(ARGV[1]) - length)) end
if n > 0 then
  redis.call('LPUSH', KEYS[1], unpack(ARGV, 2, n + 1))
  redis.call('HINCRBY', KEYS[2], 'enqueued', n)
end
return {n, length}
