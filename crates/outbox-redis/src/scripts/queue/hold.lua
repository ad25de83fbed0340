-- Leases entries that the owner's consumer has just read.
-- ARGV: group, now, owner, consumer, lease, grace in milliseconds, the least entries of a batch, how
-- many there are, the first id, and the ids with spaces between them
-- Answers the token, when the first lease of anybody else ends, and the places of entries that
-- somebody else took over meanwhile.
local owner, consumer, lease, grace = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local count = tonumber(ARGV[8])

-- What was read and is not held is taken over by others once it has been idle for the grace time;
-- the first of them was read first, a moment before the others, so that it tells of all.
local first = redis.call('XPENDING', STREAM, GROUP, ARGV[9], ARGV[9], 1, consumer)
local late = #first == 0 or first[1][3] >= grace or redis.call('HEXISTS', HELD, ARGV[9]) == 1
local token, lost = '0', {}
if not late and count >= tonumber(ARGV[7]) then
  token = hold_batch(owner, lease, count, ARGV[10])
else
  local mine, ids = {}, {}
  for id in string.gmatch(ARGV[10], '%S+') do
    ids[#ids + 1] = id
  end
  local held = late and held_of(ids)
  for place, id in ipairs(ids) do
    local pending = late and redis.call('XPENDING', STREAM, GROUP, id, id, 1, consumer)
    if not late or (#pending == 1 and not held[place]) then
      mine[#mine + 1] = id
    else
      lost[#lost + 1] = place - 1
    end
  end
  if #mine > 0 then
    token = hold(owner, lease, mine)
  end
end
move_due()
return {token, next_expiry(owner), lost, digits(NOW)}
