-- One trip of a worker: settles what it finished, hands back what it does not keep, then claims if it holds nothing.
-- KEYS 1-6  home queue: processing, pending, scheduled, dead, stats, alarm
--      then for each queue it joined, in the order of claiming: processing, workers, next, pending, paused, cancelled
--      then the unique keys that operations name by their index in KEYS
-- ARGV 1 worker  2 trip  3 last applied trip  4 number of queues  5 keep  6 want  7 return next (1/0)  8 dead_max  9 byte limit of a claim
--      then operations on the finished jobs, oldest first:
--      A n | a counter unique id | R delay-ms element | B element unique id | Q element      (unique: index in KEYS or 0; Q '': as it was)
-- Returns 'FENCED' | 'STALE' | {length, queue index, lost, cancelled, now ms, {paused}, {broken}, {jobs}}.   Caller: a worker.
local w, trip, groups, keep, want = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local proc, pending, call, last = KEYS[1], KEYS[2], redis.call, 6 + 6 * groups
for k = 7, last, 6 do
  local seen = call('HMGET', KEYS[k + 1], w, w .. ':bar')
  if not seen[1] then return 'FENCED' end
  if seen[1] ~= ARGV[3] or tonumber(seen[1]) >= trip or tonumber(seen[2] or 0) >= trip then return 'STALE' end
end
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local here, at, n, front, buried = call('LLEN', proc), 10, 0, {}, false
local function free(unique, id)
  local key = KEYS[tonumber(unique)]
  if key and call('GET', key) == id then call('DEL', key) end
end
while ARGV[at] do
  local op, a, b, c = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local alive = n < here
  if op == 'A' then
    if here - n > 0 then call('HINCRBY', KEYS[5], 'processed', math.min(tonumber(a), here - n)) end
    n, at = n + tonumber(a), at + 2
  elseif op == 'a' then
    if alive then call('HINCRBY', KEYS[5], a, 1); free(b, c) end
    n, at = n + 1, at + 4
  elseif op == 'R' then
    if alive then
      call('ZADD', KEYS[3], now + tonumber(a), b)
      call('HINCRBY', KEYS[5], 'retried', 1)
      if call('ZRANGE', KEYS[3], 0, 0)[1] == b and call('LLEN', KEYS[6]) == 0 then call('LPUSH', KEYS[6], '1') end
    end
    n, at = n + 1, at + 3
  elseif op == 'B' then
    if alive then call('ZADD', KEYS[4], now, a); call('HINCRBY', KEYS[5], 'dead', 1); free(b, c); buried = true end
    n, at = n + 1, at + 4
  else
    if alive then front[#front + 1] = a == '' and call('LINDEX', proc, -1 - n) or a; call('HINCRBY', KEYS[5], 'requeued', 1) end
    n, at = n + 1, at + 2
  end
end
local lost, held = math.max(0, n - here), math.max(0, here - n)
if held > keep then
  call('RPUSH', pending, unpack(call('LRANGE', proc, 0, held - keep - 1)))
end
for i = #front, 1, -1 do call('RPUSH', pending, front[i]) end
if held > keep then call('LTRIM', proc, held - keep, -1) end
if n > 0 and n >= here then call('DEL', proc) elseif n > 0 then call('RPOP', proc, n) end
if buried and call('ZCARD', KEYS[4]) > tonumber(ARGV[8]) then call('ZREMRANGEBYRANK', KEYS[4], 0, -1 - tonumber(ARGV[8])) end
for k = 7, last, 6 do call('HSET', KEYS[k + 1], w, trip) end
--#include claim
return {math.min(held, keep), from, lost, cancelled, now, paused, broken, jobs}
