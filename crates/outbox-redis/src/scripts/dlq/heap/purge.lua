-- Forgets what has not failed for long and is not claimed.
-- ARGV: now, before which moment the last failure was, the most entries
-- Answers how many.
local NOW = moment(ARGV[1])
local before, most, old = ARGV[2], tonumber(ARGV[3]), {}
meet_below(LAST, before, function() return #old >= most end, function(subject)
  local over = redis.call('ZSCORE', CLAIMED, subject)
  if not over or tonumber(over) <= NOW then
    old[#old + 1] = subject
  end
end)
for _, subject in ipairs(old) do
  forget(subject)
end
return #old
