-- The claiming half of settle: from the first queue in order that has jobs and is not paused. A key of a wrong type is reported, not fatal.
-- Another queue than home must accept the trip, too, before anything is taken from it: else it is `refused`, and nothing is claimed.
-- Which queues are paused is told only as far as it looked: a worker that got jobs need not know.
-- Small jobs are moved sixteen at a time and then more; behind one of more than 4 KiB one at a time, so that large payloads
-- never block the server; a claim ends at 256 KiB.
local answer, got, paused, broken, from, cancelled, refused, bytes, room = {0, 0, 0, 0, 0, 0, 0, 0}, 0, {}, {}, 0, 0, 0, 0, 262144
local function add(job) got, bytes, answer[9 + got] = got + 1, bytes + #job, job end
local function take(source, target)
  while got < want and bytes < room do
    local many = math.min(want - got, math.max(16, got))
    if many == 1 or got == 0 or #answer[8 + got] > 4096 then
      local job = redis.pcall('LMOVE', source, target, 'RIGHT', 'LEFT')
      if type(job) == 'table' and job.err then return false end
      if not job then return true end
      add(job)
    else
      local part, first = redis.pcall('LRANGE', source, -many, -1), got + 1
      if part.err then return false end
      if #part == 0 then return true end
      for j = #part, 1, -1 do
        if bytes + #part[j] > room then bytes = room break end
        add(part[j])
      end
      if got >= first then call('LPUSH', target, unpack(answer, 8 + first)); call('RPOP', source, got - first + 1) end
    end
  end
  return true
end
local function visit(k, g, claiming)
  local odd = call('EXISTS', KEYS[k + 4], KEYS[k + 5], KEYS[k + 2]) > 0
  if odd and call('EXISTS', KEYS[k + 4]) == 1 then
    paused[#paused + 1] = g
  elseif claiming and k ~= h and refusal(KEYS[k + 1]) then
    refused = g
  elseif claiming then
    if k ~= h then call('HSET', KEYS[k + 1], w, trip) end
    if not ((not odd or take(KEYS[k + 2], KEYS[k])) and take(KEYS[k + 3], KEYS[k])) then broken[#broken + 1] = g end
    if got > 0 then from = g; cancelled = odd and call('EXISTS', KEYS[k + 5]) or 0 end
  end
  while odd and ARGV[8] == '1' do
    local back = redis.pcall('LMOVE', KEYS[k + 2], KEYS[k + 3], 'LEFT', 'RIGHT')
    if not back or type(back) == 'table' then break end
  end
end
local may = want > 0 and (held == 0 or keep == 0)
for k = 1, last, 6 do
  if from ~= 0 and ARGV[8] ~= '1' then break end
  if k == h or call('EXISTS', KEYS[k + 2], KEYS[k + 3], KEYS[k + 4]) > 0 then visit(k, (k + 5) / 6, may and from == 0 and refused == 0) end
end
