-- Ends claims of those who still have them.
-- ARGV: `confirm`, which forgets what was drained, or `release`, which gives it back; for each its
-- subject and its claim
-- Answers how many.
local ended = 0
for place = 2, #ARGV, 2 do
  local subject, claim = ARGV[place], tonumber(ARGV[place + 1])
  local entry = read(subject)
  if entry and claim ~= 0 and entry[CLAIM] == claim then
    ended = ended + 1
    if ARGV[1] == 'confirm' then
      forget(subject)
    else
      entry[CLAIM] = 0
      write(subject, entry)
      unclaim(subject, entry)
    end
  end
end
return ended
