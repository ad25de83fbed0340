-- Removes a group that was not seen for a while and holds nothing, and what is noted for it but the last
-- token that it gave out; one that nobody has noted counts as seen now.
-- KEYS: stream, when each group was seen last, and what is noted for the group: what it holds, its
-- holds, the counts of these, and the rest
-- ARGV: now, the group, for how long it was not seen
-- Answers what came of it, and of one that is busy how many entries it holds.
local STREAM, SEEN, HOLDS, COUNTS, GROUP = KEYS[1], KEYS[2], KEYS[4], KEYS[5], ARGV[2]
local NOW = moment(ARGV[1])
local there = false
if call('EXISTS', STREAM) == 1 then
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', STREAM)) do
    for place = 1, #group, 2 do
      there = there or (group[place] == 'name' and group[place + 1] == GROUP)
    end
  end
end
if not there then
  return {'absent'}
end
if NOW - tonumber(call('HGET', SEEN, GROUP) or NOW) < tonumber(ARGV[3]) then
  return {'seen'}
end

-- Who is at work does not ask for more, and so is not seen.
local held = 0
for _, hold in ipairs(call('ZRANGEBYSCORE', HOLDS, '(' .. digits(NOW), '+inf')) do
  held = held + tonumber(call('HGET', COUNTS, hold) or 0)
end
if held > 0 then
  return {'busy', digits(held)}
end

redis.call('XGROUP', 'DESTROY', STREAM, GROUP)
call('HDEL', SEEN, GROUP)
local token = call('HGET', COUNTS, 'token')
for place = 3, #KEYS do
  call('UNLINK', KEYS[place])
end
if token then
  call('HSET', COUNTS, 'token', token)
end
return {'removed'}
