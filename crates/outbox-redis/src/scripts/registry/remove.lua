-- Removes a group that was not seen for a while, and what is noted for it; one that nobody has noted
-- counts as seen now.
-- KEYS: stream, when each group was seen last, and what is noted for the group
-- ARGV: now, the group, for how long it was not seen
-- Answers 1 where it is gone.
local NOW = moment(ARGV[1])
local seen = tonumber(call('HGET', KEYS[2], ARGV[2]) or NOW)
if NOW - seen < tonumber(ARGV[3]) or call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local removed = redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[2])
call('HDEL', KEYS[2], ARGV[2])
for place = 3, #KEYS do
  call('UNLINK', KEYS[place])
end
return removed
