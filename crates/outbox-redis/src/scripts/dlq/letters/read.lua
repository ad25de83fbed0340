-- Reads dead letters, as many of those that are named as their bytes allow.
-- ARGV: group, now, ids of entries
-- Answers how many it came to, and those of them that are there.
local bytes, came_to, found = 0, 0, {}
for place = 3, #ARGV do
  if bytes >= BYTES then
    break
  end
  local entry = entry_of(QUARANTINE, ARGV[place])
  if entry then
    bytes = bytes + size_of(entry[2])
    found[#found + 1] = entry
  end
  came_to = came_to + 1
end
return {came_to, found}
