-- Scheduled jobs or dead letters are taken away for good; their unique keys are freed, if still theirs.
-- KEYS 1 scheduled or dead  2 stats, then unique keys
-- ARGV 1 counter of the stats, then for each: element, index of its unique key in KEYS or 0, id     Returns how many were there.   Caller: an operator.
local n = 0
for i = 2, #ARGV, 3 do
  if redis.call('ZREM', KEYS[1], ARGV[i]) == 1 then
    n = n + 1
    local key = KEYS[tonumber(ARGV[i + 1])]
    if key and redis.call('GET', key) == ARGV[i + 2] then redis.call('DEL', key) end
  end
end
if n > 0 then redis.call('HINCRBY', KEYS[2], ARGV[1], n) end
return n
