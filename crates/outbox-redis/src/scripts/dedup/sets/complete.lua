-- Records claimed ids as done. ARGV, from 5 on: the time to live, in which of the live rotations it
-- ends, when that one ends, then the claimed ids.
-- Answers the moment, then for each id, or once for all, whether it took effect; the moment alone
-- where the rotation is another one.
if stale() then
  return {micros}
end
local by_hash, answers = proven(claimed(8))
for _, ids in pairs(by_hash) do
  remember(tonumber(ARGV[6]), tonumber(ARGV[7]), ids)
end
forget_claims(by_hash)
return told(answers)
