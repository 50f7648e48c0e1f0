-- One tick of a cron entry, pushed by whoever comes first: only one later than the last, and not before its time.
-- KEYS 1 pending  2 cron  3 stats  4 unique key (counts only if ARGV 7 says so)
-- ARGV 1 tick, ms  2 schedule  3 element  4 id  5 max_length or ''  6 s for which the tick is remembered  7 unique 1/0
-- Returns {word, last tick or 0, now, length}, word: pushed | taken (its unique key; the tick is over all the same) | held | early | full.   Caller: a steward.
local call = redis.call
local time, tick = call('TIME'), tonumber(ARGV[1])
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(string.match(call('GET', KEYS[2]) or '', '^%d+')) or 0
if last >= tick then return {'held', last, now, 0} end
if tick > now then return {'early', last, now, 0} end
local word = 'pushed'
if ARGV[7] == '1' and call('EXISTS', KEYS[4]) == 1 then word = 'taken' end
if word == 'pushed' then
  local length = call('LLEN', KEYS[1])
  if ARGV[5] ~= '' and length >= tonumber(ARGV[5]) then return {'full', last, now, length} end
  call('LPUSH', KEYS[1], ARGV[3])
end
call('SET', KEYS[2], ARGV[1] .. ' ' .. ARGV[2], 'EX', ARGV[6])
if word == 'pushed' then
  if ARGV[7] == '1' then call('SET', KEYS[4], ARGV[4]) end
  call('HINCRBY', KEYS[3], 'enqueued', 1)
end
return {word, tick, now, 0}
