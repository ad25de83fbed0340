-- Deletes dead letters.
-- ARGV: group, now, the step of an action (see record_step), and for each letter its entry, lines in
-- LETTERS and ORDER, and name
-- Answers how many were there.
local STEP, FIRST_LETTER = 3, 9
local deleted = 0
for place = FIRST_LETTER, #ARGV, 4 do
  deleted = deleted + redis.call('XDEL', QUARANTINE, ARGV[place])
  forget_letter(ARGV[place + 1], ARGV[place + 2], ARGV[place + 3])
end
record_step(STEP, deleted)
return deleted
