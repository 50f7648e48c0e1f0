-- Jobs on their way to a woken worker that never claimed them go back, in order, which wakes somebody else.
-- KEYS 1 next  2 pending     Returns how many.   Caller: a steward.
local n = 0
while redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT') do n = n + 1 end
return n
