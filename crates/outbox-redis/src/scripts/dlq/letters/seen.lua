-- Tells which messages of dead letters may be in the queue again, for the first time.
-- ARGV: group, now, half of the window for which ids are remembered, entries of letters
-- Answers their ids.
local half, again = tonumber(ARGV[3]), {}
for place = 4, #ARGV do
  local entry = entry_of(QUARANTINE, ARGV[place])
  local record = entry and record_of(entry[1], entry[2])
  if record and came_again(record, half) then
    again[#again + 1] = id_in(record.m)
  end
end
return again
