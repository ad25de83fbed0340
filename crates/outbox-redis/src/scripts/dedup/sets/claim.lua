-- Claims ids. ARGV, from 5 on: the lease, in which of the live rotations it ends, when that one ends,
-- the token, then each id.
-- Answers the moment, then for each id, or once for all, 0 for acquired, -1 for done, else for how
-- many milliseconds another holds it; the moment alone where the rotation is another one.
if stale() then
  return {micros}
end
local lease, hash, ends, token = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
local claim = token .. '|' .. digits(now + lease)
local ids, done = {unpack(ARGV, 9)}, {}
meet_done(ids, function(at)
  done[at] = true
end)
local held, hashes = claims_of(ids)

local answers, fields, met, moved = {}, {}, {}, {}

-- Most often none is known, and none comes twice: then all of them are new in the hash.
if not next(done) and not next(held) then
  for at, id in ipairs(ids) do
    fields[2 * at - 1], fields[2 * at] = id, claim
  end
  if note_claims(hash, ends, fields) == #ids then
    return {micros, 0}
  end
  for at, id in ipairs(ids) do
    answers[at] = met[id] or 0
    met[id] = math.max(lease, 1)
  end
  return told(answers)
end

for at, id in ipairs(ids) do
  local left = held[at] and left_of(held[at]) or 0
  if done[at] then
    answers[at] = -1
  elseif left > 0 or met[id] then
    answers[at] = math.max(left, met[id] or 1)
  else
    answers[at], met[id] = 0, math.max(lease, 1)
    fields[#fields + 1] = id
    fields[#fields + 1] = claim
    -- What is left of a claim that is over.
    if held[at] and hashes[at] ~= hash then
      moved[hashes[at]] = moved[hashes[at]] or {}
      table.insert(moved[hashes[at]], id)
    end
  end
end
if #fields > 0 then
  note_claims(hash, ends, fields)
  forget_claims(moved)
end
return told(answers)
