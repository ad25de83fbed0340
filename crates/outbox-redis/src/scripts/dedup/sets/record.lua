-- Records an id as done, whoever claims it. ARGV, from 5 on: the time to live, in which of the live
-- rotations it ends, when that one ends, the id.
-- Answers the moment, then whether it is news; the moment alone where the rotation is another one.
if stale() then
  return {micros}
end
local ids, target, known = {ARGV[8]}, tonumber(ARGV[6]), nil
meet_done(ids, function(_, set)
  known = set
end)
-- What is remembered longer already stays so.
if not known or known < target then
  remember(target, tonumber(ARGV[7]), ids)
  if known then
    call('SREM', KEYS[known], ids[1])
  end
end
local _, hashes = claims_of(ids)
if hashes[1] then
  call('HDEL', KEYS[live + hashes[1]], ids[1])
end
return {micros, known and 0 or 1}
