-- Removes what every group has read and settled, and nothing else.
-- ARGV: group, now
-- Answers how many entries went.
local function before(one, other)
  local one_ms, one_seq = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)-(%d+)$')
  -- Longer numbers are greater ones: a double would not tell all 64 bits apart.
  if #one_ms ~= #other_ms then return #one_ms < #other_ms end
  if one_ms ~= other_ms then return one_ms < other_ms end
  if #one_seq ~= #other_seq then return #one_seq < #other_seq end
  return one_seq < other_seq
end

local low = nil
for _, group in ipairs(redis.call('XINFO', 'GROUPS', STREAM)) do
  local of = {}
  for place = 1, #group, 2 do
    of[group[place]] = group[place + 1]
  end
  local pending = redis.call('XPENDING', STREAM, of['name'])
  -- The last one that was read stays, too: one more than is needed, and no arithmetic on ids.
  local mark = pending[1] > 0 and pending[2] or of['last-delivered-id']
  if not low or before(mark, low) then
    low = mark
  end
end
return low and redis.call('XTRIM', STREAM, 'MINID', low) or 0
