-- Removes consumers of workers that are gone: those that hold nothing and have read nothing for a
-- while. One that lives comes back with its next read.
-- ARGV: group, now, how long in milliseconds
-- Answers how many.
local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', STREAM, GROUP)) do
  local of = {}
  for place = 1, #consumer, 2 do
    of[consumer[place]] = consumer[place + 1]
  end
  if of['pending'] == 0 and of['idle'] >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', STREAM, GROUP, of['name'])
    removed = removed + 1
  end
end
return removed
