-- Lists the groups of a stream, and notes when each was seen last: the caller's own now, one that is
-- met for the first time as well. One that is gone is forgotten.
-- KEYS: stream, when each group was seen last
-- ARGV: now, the caller's group or nothing
-- Answers for each group its name, for how long it was not seen, how many entries are pending, and how
-- many it has not read, or -1 where the server cannot tell.
local STREAM, SEEN, OWN = KEYS[1], KEYS[2], ARGV[2]
local NOW = moment(ARGV[1])
if call('EXISTS', STREAM) == 0 then
  return {}
end

local noted = {}
local fields = call('HGETALL', SEEN)
for place = 1, #fields, 2 do
  noted[fields[place]] = tonumber(fields[place + 1])
end

local answer, there = {}, {}
for _, group in ipairs(redis.call('XINFO', 'GROUPS', STREAM)) do
  local of = {}
  for place = 1, #group, 2 do
    of[group[place]] = group[place + 1]
  end
  local name = of['name']
  there[name] = true
  if name == OWN or not noted[name] then
    noted[name] = NOW
    call('HSET', SEEN, name, digits(NOW))
  end
  local silent = math.max(NOW - noted[name], 0)
  answer[#answer + 1] = {name, digits(silent), of['pending'], of['lag'] or -1}
end
for name in pairs(noted) do
  if not there[name] then
    call('HDEL', SEEN, name)
  end
end
return answer
