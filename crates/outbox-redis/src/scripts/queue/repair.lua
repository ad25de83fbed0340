-- Makes the stream and its group where they are missing: from the beginning, so that nothing that
-- is there is passed over. Whatever was held in a group that is gone is held no more.
-- ARGV: group, now
-- Answers 1 where the group was made.
local made = redis.pcall('XGROUP', 'CREATE', STREAM, GROUP, '0', 'MKSTREAM')
if made.err then
  if string.find(made.err, 'BUSYGROUP', 1, true) then
    return 0
  end
  return made
end
local token = redis.call('HGET', COUNTS, 'token')
redis.call('DEL', HELD, HOLDS, COUNTS)
if token then
  redis.call('HSET', COUNTS, 'token', token)
end
return 1
