-- Adds dead letters that are not here.
-- ARGV: group, now, the step of an action (see record_step), and for each letter its name, how many
-- texts its fields are, and these
-- Answers how many were added; nothing was where it is less than 0, because the indexes do not know
-- all letters yet.
local STEP, FIRST_LETTER = 3, 9
local filled = redis.call('GET', FILLED) or '0-0'
if #redis.call('XRANGE', QUARANTINE, '(' .. filled, '+', 'COUNT', 1) > 0 then
  return -1
end
local added, here, place = 0, {}, FIRST_LETTER
while place <= #ARGV do
  local name, first = ARGV[place], place + 2
  local last = first + tonumber(ARGV[place + 1]) - 1
  if not here[name] and redis.call('HEXISTS', NAMES, name) == 0 then
    redis.call('XADD', QUARANTINE, '*', unpack(ARGV, first, last))
    here[name], added = true, added + 1
  end
  place = last + 1
end
record_step(STEP, added)
return added
