-- Reads what nobody has read, and leases it, in one step: for few at a time, because the fields of
-- each entry pass through the script.
-- ARGV: group, now, owner, consumer, lease, the most entries
-- Answers the token, the entries, when the first lease of anybody else ends, and the present moment.
local owner = ARGV[3]
-- First, so that what is due is among what is read.
move_due()
local read = redis.call(
  'XREADGROUP', 'GROUP', GROUP, ARGV[4], 'COUNT', ARGV[6], 'STREAMS', STREAM, '>')
local entries, ids, token = read and read[1][2] or {}, {}, '0'
for place, entry in ipairs(entries) do
  ids[place] = entry[1]
end
if #ids > 0 then
  token = hold(owner, tonumber(ARGV[5]), ids)
end
return {token, entries, next_expiry(owner), digits(NOW)}
