-- One dead letter goes to the ready list again, with its unique key if it has one and nobody else took it meanwhile.
-- KEYS 1 dead  2 pending  3 stats  4 unique key (counts only if ARGV 4 says so)
-- ARGV 1 the dead letter  2 the element it becomes  3 its id  4 has a unique key 1/0
-- Returns {'OK'} | {'GONE'} | {'HELD', id of the live job with that key}.   Caller: an operator.
local call = redis.call
if not call('ZSCORE', KEYS[1], ARGV[1]) then return {'GONE'} end
if ARGV[4] == '1' then
  local holder = call('GET', KEYS[4])
  if holder and holder ~= ARGV[3] then return {'HELD', holder} end
  call('SET', KEYS[4], ARGV[3])
end
call('LPUSH', KEYS[2], ARGV[2])
call('ZREM', KEYS[1], ARGV[1])
call('HINCRBY', KEYS[3], 'revived', 1)
return {'OK'}
