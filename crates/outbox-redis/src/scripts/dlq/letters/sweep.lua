-- Forgets letters that are not here any more: somebody removed them by hand, or the server lost them.
-- ARGV: group, now, and for each letter its entry, lines in LETTERS and ORDER, and name
-- Answers how many it came to, as far as their bytes allow, and how many of them were gone.
local bytes, came_to, gone = 0, 0, 0
for place = 3, #ARGV, 4 do
  if bytes >= BYTES then
    break
  end
  local entry = entry_of(QUARANTINE, ARGV[place])
  if entry then
    bytes = bytes + size_of(entry[2])
  else
    forget_letter(ARGV[place + 1], ARGV[place + 2], ARGV[place + 3])
    gone = gone + 1
  end
  came_to = came_to + 1
end
return {came_to, gone}
