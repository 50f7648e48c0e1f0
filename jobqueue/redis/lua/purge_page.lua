-- The oldest jobs of those put aside go for good, as far as they still are what the caller saw; their unique keys are freed.
-- KEYS 1 purging  2 stats, then unique keys
-- ARGV for each, oldest first: element, index of its unique key in KEYS or 0, id     Returns how many.   Caller: an operator, after purge_begin.
local n = 0
for i = 1, #ARGV, 3 do
  if redis.call('LINDEX', KEYS[1], -1) ~= ARGV[i] then break end
  local key = KEYS[tonumber(ARGV[i + 1])]
  if key and redis.call('GET', key) == ARGV[i + 2] then redis.call('DEL', key) end
  redis.call('RPOP', KEYS[1])
  n = n + 1
end
if n > 0 then redis.call('HINCRBY', KEYS[2], 'purged', n) end
return n
