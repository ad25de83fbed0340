-- Gives claims back. ARGV, from 5 on: the claimed ids.
-- Answers the moment, then for each id, or once for all, whether it took effect; the moment alone
-- where the rotation is another one.
if stale() then
  return {micros}
end
local by_hash, answers = proven(claimed(5))
forget_claims(by_hash)
return told(answers)
