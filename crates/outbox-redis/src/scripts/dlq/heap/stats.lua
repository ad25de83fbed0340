-- Counts what the heap holds.
-- ARGV: now
-- Answers how many entries, how many of them are claimed, and the first failure of all.
local NOW = moment(ARGV[1])
local first = redis.call('ZRANGE', FIRST, 0, 0, 'WITHSCORES')
local claimed = redis.call('ZCOUNT', CLAIMED, '(' .. digits(NOW), '+inf')
return {redis.call('HLEN', ENTRIES), claimed, first[2] and digits(tonumber(first[2])) or ''}
