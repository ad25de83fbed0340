-- Makes the stream and its group where they are missing: from the beginning, so that nothing that
-- is there is passed over. Whatever was held in a group that is gone is held no more. Where the group
-- was there before, the stream may have been lost with it, and begun anew since: ids are forgotten,
-- because what was lost must not count as there.
-- ARGV: group, now, half of the window, 1 where the group was there before
-- Answers 1 where the group was made.
local made = redis.pcall('XGROUP', 'CREATE', STREAM, GROUP, '0', 'MKSTREAM')
if made.err then
  if string.find(made.err, 'BUSYGROUP', 1, true) then
    return 0
  end
  return made
end
if ARGV[4] == '1' then
  forget_seen(SEEN, half_of(NOW, tonumber(ARGV[3])))
end
local token = redis.call('HGET', COUNTS, 'token')
redis.call('DEL', HELD, HOLDS, COUNTS, BATCHES)
if token then
  redis.call('HSET', COUNTS, 'token', token)
end
return 1
