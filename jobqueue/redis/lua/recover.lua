-- Disposes of what a dead worker held, each job only if it is still in its list; forgets the worker when the list is empty.
-- KEYS 1 processing  2 workers  3 leases  4 pending  5 next  6 scheduled  7 dead  8 stats  9 alarm, then unique keys
-- ARGV 1 worker  2 counter of the stats  3 dead_max, then operations, oldest job first, each with the element as it lies in the list:
--      a old counter unique id | R old delay-ms element | B old element unique id | Q old element      (unique: index in KEYS or 0; Q '': as it was)
-- Returns {entries left, carried out}.   Caller: a steward, after fence.
local w, call, proc, at, done, front = ARGV[1], redis.call, KEYS[1], 4, 0, {}
call('HDEL', KEYS[2], w, w .. ':bar')
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function free(unique, id)
  local key = KEYS[tonumber(unique)]
  if key and call('GET', key) == id then call('DEL', key) end
end
while call('LMOVE', KEYS[5], KEYS[4], 'LEFT', 'RIGHT') do end
while ARGV[at] do
  local op, old, a, b, c = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local alive = call('LPOS', proc, old, 'RANK', -1)
  if alive then
    if op == 'a' then call('HINCRBY', KEYS[8], a, 1); free(b, c)
    elseif op == 'R' then
      call('ZADD', KEYS[6], now + tonumber(a), b)
      call('HINCRBY', KEYS[8], 'retried', 1)
      if call('ZRANGE', KEYS[6], 0, 0)[1] == b and call('LLEN', KEYS[9]) == 0 then call('LPUSH', KEYS[9], '1') end
    elseif op == 'B' then
      call('ZADD', KEYS[7], now, a)
      call('HINCRBY', KEYS[8], 'dead', 1)
      free(b, c)
    else front[#front + 1] = a == '' and old or a end
    call('LREM', proc, -1, old)
    done = done + 1
  end
  at = at + ((op == 'R' and 4) or (op == 'Q' and 3) or 5)
end
for i = #front, 1, -1 do call('RPUSH', KEYS[4], front[i]) end
if done > 0 then
  call('HINCRBY', KEYS[8], ARGV[2], done)
  if call('ZCARD', KEYS[7]) > tonumber(ARGV[3]) then call('ZREMRANGEBYRANK', KEYS[7], 0, -1 - tonumber(ARGV[3])) end
end
local left = call('LLEN', proc)
if left == 0 then call('ZREM', KEYS[3], w); call('HDEL', KEYS[2], w .. ':was') end
return {left, done}
