-- One trip of a worker: settles what it finished, hands back what it does not keep, then claims if it holds nothing.
-- KEYS for each queue the trip may touch, in the order of claiming: processing, workers, next, pending, paused, cancelled
--      then the home queue's stats; with other operations than A also its scheduled, dead, alarm, and the unique keys they name by their index in KEYS
-- ARGV 1 worker  2 number of queues  3 which of them is home  4 trip  5 last applied trip of home  6 keep  7 want  8 return next (1/0)
--      then operations on the finished jobs, oldest first:
--      A n | a counter unique id | R delay-ms element | B element unique id dead_max | Q element      (unique: index in KEYS or 0; Q '': as it was)
-- Returns 'FENCED' | 'STALE' | {length, queue index, lost, cancelled, now ms, {paused} or 0, {broken} or 0, refused, jobs ...}
--      (flat, for each table of an answer costs the server as much as a command).   Caller: a worker.
local w, last, h, trip = ARGV[1], 6 * ARGV[2], 6 * ARGV[3] - 5, tonumber(ARGV[4])
local keep, want, bar, call = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[1] .. ':bar', redis.call
local function refusal(workers, expected)
  local seen = call('HMGET', workers, w, bar)
  if not seen[1] then return 'FENCED' end
  local applied = tonumber(seen[1])
  if applied >= trip or (expected and applied ~= expected) or tonumber(seen[2] or 0) >= trip then return 'STALE' end
end
local no = refusal(KEYS[h + 1], tonumber(ARGV[5]))
if no then return no end
local proc, pending, stats, scheduled, dead, alarm = KEYS[h], KEYS[h + 3], KEYS[last + 1], KEYS[last + 2], KEYS[last + 3], KEYS[last + 4]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local here, at, n, front = call('LLEN', proc), 9, 0, {}
local function free(unique, id)
  local key = KEYS[tonumber(unique)]
  if key and call('GET', key) == id then call('DEL', key) end
end
while ARGV[at] do
  local op, a, b, c, d = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local alive = n < here
  if op == 'A' then
    if alive then call('HINCRBY', stats, 'processed', math.min(tonumber(a), here - n)) end
    n, at = n + tonumber(a), at + 2
  elseif op == 'a' then
    if alive then call('HINCRBY', stats, a, 1); free(b, c) end
    n, at = n + 1, at + 4
  elseif op == 'R' then
    if alive then
      call('ZADD', scheduled, now + tonumber(a), b)
      call('HINCRBY', stats, 'retried', 1)
      if call('ZRANGE', scheduled, 0, 0)[1] == b and call('LLEN', alarm) == 0 then call('LPUSH', alarm, '1') end
    end
    n, at = n + 1, at + 3
  elseif op == 'B' then
    if alive then
      call('ZADD', dead, now, a)
      call('HINCRBY', stats, 'dead', 1)
      free(b, c)
      if call('ZCARD', dead) > tonumber(d) then call('ZREMRANGEBYRANK', dead, 0, -1 - tonumber(d)) end
    end
    n, at = n + 1, at + 5
  else
    if alive then front[#front + 1] = a == '' and call('LINDEX', proc, -1 - n) or a; call('HINCRBY', stats, 'requeued', 1) end
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
call('HSET', KEYS[h + 1], w, trip)
--#include claim
answer[1], answer[2], answer[3], answer[4], answer[5] = math.min(held, keep), from, lost, cancelled, now
answer[6], answer[7], answer[8] = #paused > 0 and paused or 0, #broken > 0 and broken or 0, refused
return answer
