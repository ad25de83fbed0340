-- Leases entries that the owner's consumer has just read.
-- ARGV: group, now, owner, consumer, lease, grace in milliseconds, ids
-- Answers the token, when the first lease of anybody else ends, and the places of entries that
-- somebody else took over meanwhile.
local owner, consumer, lease, grace = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local ids = {}
for place = 7, #ARGV do
  ids[place - 6] = ARGV[place]
end

-- What was read and is not held is taken over by others once it has been idle for the grace time;
-- the first of them was read first, a moment before the others, so that it tells of all.
local mine, lost = ids, {}
local first = redis.call('XPENDING', STREAM, GROUP, ids[1], ids[1], 1, consumer)
if #first == 0 or first[1][3] >= grace then
  mine = {}
  local held = held_of(ids)
  for place, id in ipairs(ids) do
    local pending = redis.call('XPENDING', STREAM, GROUP, id, id, 1, consumer)
    if #pending == 1 and not held[place] then
      mine[#mine + 1] = id
    else
      lost[#lost + 1] = place - 1
    end
  end
end

local token = '0'
if #mine > 0 then
  token = hold(owner, lease, mine)
end
move_due()
return {token, next_expiry(owner), lost, digits(NOW)}
