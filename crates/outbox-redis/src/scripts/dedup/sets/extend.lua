-- Extends claims. ARGV, from 5 on: the lease, in which of the live rotations it ends, when that one
-- ends, then the claimed ids.
-- Answers the moment, then for each id, or once for all, whether it took effect; the moment alone
-- where the rotation is another one.
if stale() then
  return {micros}
end
local until_then, hash = '|' .. digits(now + tonumber(ARGV[5])), tonumber(ARGV[6])
local ids, tokens = claimed(8)
local by_hash, answers = proven(ids, tokens)
local fields = {}
for at, live_one in ipairs(answers) do
  if live_one == 1 then
    fields[#fields + 1] = ids[at]
    fields[#fields + 1] = tokens[at] .. until_then
  end
end
if #fields > 0 then
  note_claims(hash, tonumber(ARGV[7]), fields)
  by_hash[hash] = nil
  forget_claims(by_hash)
end
return told(answers)
