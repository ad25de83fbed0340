-- Answers dead letters that the indexes do not know yet.
-- ARGV: group, now, the most
-- Answers up to which letter they know all, the next ones, and whether there are more.
local filled, found = redis.call('GET', FILLED) or '0-0', {}
local next = meet_entries(QUARANTINE, '(' .. filled, '+', tonumber(ARGV[3]), function(entry)
  found[#found + 1] = entry
end)
return {filled, found, next == '' and 0 or 1}
