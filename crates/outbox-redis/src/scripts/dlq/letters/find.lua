-- Looks for messages among what is in the queue for the first time.
-- ARGV: group, now, where to begin, `held` for what the group has read alone or `all`, how many
-- entries to go through, ids of messages
-- Answers where to go on, or nothing, and the ids of those that were found.
local wanted, found = {}, {}
for place = 6, #ARGV do
  wanted[ARGV[place]] = true
end
if redis.call('EXISTS', STREAM) == 0 then
  return {'', {}}
end
local read = '0-0'
for _, group in ipairs(groups()) do
  if group['name'] == GROUP then
    read = group['last-delivered-id']
  end
end
local next = meet_entries(STREAM, ARGV[3], ARGV[4] == 'all' and '+' or read, tonumber(ARGV[5]), function(entry)
  local id, message = entry[1], id_in(record_of(entry[1], entry[2]).m)
  -- What the group has settled may be there for others.
  if wanted[message] and (before(read, id) or #redis.call('XPENDING', STREAM, GROUP, id, id, 1) > 0) then
    found[#found + 1] = message
  end
end)
return {next, found}
