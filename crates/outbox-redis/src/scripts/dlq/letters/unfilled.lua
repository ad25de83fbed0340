-- Answers dead letters that the indexes do not know yet.
-- ARGV: group, now, the most
-- Answers up to which letter they know all, the next ones, and, where there are none, how many letters
-- they know that are not here any more.
local filled, found = redis.call('GET', FILLED) or '0-0', {}
meet_entries(QUARANTINE, '(' .. filled, '+', tonumber(ARGV[3]), function(entry)
  found[#found + 1] = entry
end)
local gone = redis.call('ZCARD', LETTERS) - redis.call('XLEN', QUARANTINE)
return {filled, found, gone}
