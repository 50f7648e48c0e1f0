-- One job in, with any of: unique key, id of the producer's own choice, delay, length limit. Nothing is done if it is refused.
-- KEYS 1 pending  2 scheduled  3 stats  4 alarm  5 unique key  6 id key (5 and 6 count only if ARGV 7 and 8 say so)
-- ARGV 1 element  2 id  3 delay ms  4 due time ms or 0  5 max_length or ''  6 ms for which an id is remembered  7 unique 1/0  8 id 1/0
-- Returns {'OK', id} | {'TAKEN', id of the live job} | {'FULL', length}.   Caller: a producer.
local call = redis.call
if ARGV[8] == '1' then
  local id = call('GET', KEYS[6])
  if id then return {'TAKEN', id} end
end
if ARGV[7] == '1' then
  local id = call('GET', KEYS[5])
  if id then return {'TAKEN', id} end
end
if ARGV[5] ~= '' then
  local length = call('LLEN', KEYS[1])
  if length >= tonumber(ARGV[5]) then return {'FULL', length} end
end
if ARGV[8] == '1' then call('SET', KEYS[6], ARGV[2], 'PX', ARGV[6]) end
if ARGV[7] == '1' then call('SET', KEYS[5], ARGV[2]) end
local time = call('TIME')
local now, due = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[4])
if due == 0 and tonumber(ARGV[3]) > 0 then due = now + tonumber(ARGV[3]) end
if due > now then
  call('ZADD', KEYS[2], due, ARGV[1])
  if call('ZRANGE', KEYS[2], 0, 0)[1] == ARGV[1] and call('LLEN', KEYS[4]) == 0 then call('LPUSH', KEYS[4], '1') end
else
  call('LPUSH', KEYS[1], ARGV[1])
end
call('HINCRBY', KEYS[3], 'enqueued', 1)
return {'OK', ARGV[2]}
