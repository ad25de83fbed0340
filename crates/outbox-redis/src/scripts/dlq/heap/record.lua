-- Counts failures.
-- ARGV: for each its subject, when it was, its kind and its text
for place = 1, #ARGV, 4 do
  local subject, at = ARGV[place], tonumber(ARGV[place + 1])
  local entry = read(subject) or {0, at, at, '', '', 0}
  entry[FAILURES] = entry[FAILURES] + 1
  entry[FIRST_AT] = math.min(entry[FIRST_AT], at)
  entry[LAST_AT] = math.max(entry[LAST_AT], at)
  entry[KIND], entry[ERROR] = ARGV[place + 2], ARGV[place + 3]
  write(subject, entry)
  redis.call('ZADD', FIRST, digits(entry[FIRST_AT]), subject)
  redis.call('ZADD', LAST, digits(entry[LAST_AT]), subject)
  if not redis.call('ZSCORE', CLAIMED, subject) then
    redis.call('ZADD', COUNT, entry[FAILURES], subject)
  end
end
