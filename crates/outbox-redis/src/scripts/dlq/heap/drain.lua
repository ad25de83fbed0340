-- Claims what failed too often, and what has been failing for too long.
-- ARGV: now, how many failures are too many, what began to fail before this moment is drained too
-- (nothing where empty), the most entries, how long they are claimed
-- Answers the claim, and for each its subject, failures, first and last failure, kind and text.
local NOW = moment(ARGV[1])
local threshold, since, most, lease = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

for _, subject in ipairs(redis.call('ZRANGEBYSCORE', CLAIMED, '-inf', NOW, 'LIMIT', 0, PAGE * PAGES)) do
  local entry = read(subject)
  if entry then
    unclaim(subject, entry)
  else
    forget(subject)
  end
end

local drained, claim = {}, nil
local function take(subject)
  local entry = read(subject)
  if not entry then
    return forget(subject)
  end
  claim = claim or redis.call('INCR', TOKEN)
  entry[CLAIM] = claim
  write(subject, entry)
  redis.call('ZADD', CLAIMED, digits(NOW + lease), subject)
  redis.call('ZREM', COUNT, subject)
  drained[#drained + 1] = {
    subject, entry[FAILURES], entry[FIRST_AT], entry[LAST_AT], entry[KIND], entry[ERROR],
  }
end

for _, subject in ipairs(redis.call('ZREVRANGEBYSCORE', COUNT, '+inf', threshold, 'LIMIT', 0, most)) do
  take(subject)
end
if since ~= '' then
  meet_below(FIRST, since, function() return #drained >= most end, function(subject)
    if not redis.call('ZSCORE', CLAIMED, subject) then
      take(subject)
    end
  end)
end
return {claim or 0, drained}
