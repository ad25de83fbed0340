-- Extends leases of those who still have them.
-- ARGV: group, now, lease, and then runs: the owner and token of a delivery, how many, entries
-- Answers the places of those whose lease was lost.
local ends = digits(NOW + tonumber(ARGV[3]))
local ids, proofs = {}, {}
local place = 4
while place <= #ARGV do
  local proof, count = ARGV[place], tonumber(ARGV[place + 1])
  local value, token = batch_of(proof)
  if value then
    dissolve(token, value)
  end
  for at = place + 2, place + 1 + count do
    ids[#ids + 1] = ARGV[at]
    proofs[#ids] = proof
  end
  place = place + 2 + count
end

local lost, values, from, to, extended = {}, {}, {}, {}, {}
for at, value in ipairs(held_of(ids)) do
  local proof, id = proofs[at], ids[at]
  if value and string.sub(value, 1, #proof) == proof then
    if not extended[id] then
      local before, after = hold_in(value), string.sub(proof, 1, 16) .. ends
      from[before] = (from[before] or 0) + 1
      to[after] = (to[after] or 0) + 1
      extended[id] = true
      values[#values + 1] = id
      values[#values + 1] = proof .. ends
    end
  else
    lost[#lost + 1] = at - 1
  end
end

for hold, count in pairs(to) do
  add_to_hold(hold, count)
end
each_chunk(values, function(...)
  redis.call('HSET', HELD, ...)
end)
take_from_holds(from)
return lost
