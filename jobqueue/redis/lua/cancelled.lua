-- Which of these ids are marked as cancelled; the marks are removed, so each works once.
-- KEYS 1 cancelled     ARGV ids     Returns {0/1 for each id}.   Caller: a worker that was told that marks exist.
local answer = {}
for i = 1, #ARGV do answer[i] = redis.call('SREM', KEYS[1], ARGV[i]) end
return answer
