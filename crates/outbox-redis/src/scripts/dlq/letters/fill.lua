-- Makes dead letters known to the indexes, unless somebody else did meanwhile.
-- ARGV: group, now, up to which letter they were known, up to which they are now, and for each its
-- lines in LETTERS and ORDER, and its name
-- Answers whether it did.
if (redis.call('GET', FILLED) or '0-0') ~= ARGV[3] then
  return 0
end
for place = 5, #ARGV, 3 do
  redis.call('ZADD', LETTERS, 0, ARGV[place])
  redis.call('ZADD', ORDER, 0, ARGV[place + 1])
  redis.call('HINCRBY', NAMES, ARGV[place + 2], 1)
end
redis.call('SET', FILLED, ARGV[4])
return 1
