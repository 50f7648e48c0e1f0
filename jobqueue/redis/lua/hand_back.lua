-- Moves all but the oldest `keep` entries of a live worker's list back to the front of their queue, if it has made no trip since.
-- KEYS 1 processing  2 workers  3 pending     ARGV 1 worker  2 trip the caller saw  3 keep     Returns how many, or -1.   Caller: a steward.
local seen = redis.call('HMGET', KEYS[2], ARGV[1], ARGV[1] .. ':bar')
if not seen[1] or math.max(tonumber(seen[1]), tonumber(seen[2] or 0)) ~= tonumber(ARGV[2]) then return -1 end
local more = redis.call('LLEN', KEYS[1]) - tonumber(ARGV[3])
if more <= 0 then return 0 end
redis.call('RPUSH', KEYS[3], unpack(redis.call('LRANGE', KEYS[1], 0, more - 1)))
redis.call('LTRIM', KEYS[1], more, -1)
return more
