-- Tells which messages were enqueued lately.
-- ARGV: group, now, half of the window for which ids are remembered, ids of messages
-- Answers those that are remembered.
local seen, bucket = {}, math.floor(NOW / tonumber(ARGV[3]))
for place = 4, #ARGV do
  local message, known = ARGV[place], 0
  for back = 0, 2 do
    known = known + redis.call('SISMEMBER', SEEN .. ':' .. digits(bucket - back), message)
  end
  if known > 0 then
    seen[#seen + 1] = message
  end
end
return seen
