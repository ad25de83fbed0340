-- Tells one who found nothing to read what he waits for.
-- ARGV: group, now, owner
-- Answers how many entries came back just now, the last entry of the stream that was read, the last
-- ring of the bell, when the next entry is due, when the first lease of anybody else ends, whether
-- some entries were read and are not held, whether anybody holds anything, and the present moment.
local moved, next_due = move_due()
local unheld = redis.call('XPENDING', STREAM, GROUP)[1] > held_count()
local read = '0-0'
for _, group in ipairs(groups()) do
  if group['name'] == GROUP then
    read = group['last-delivered-id']
  end
end
local rung = redis.call('XREVRANGE', BELL, '+', '-', 'COUNT', 1)[1]
local ring, expiry = rung and rung[1] or '0-0', next_expiry(ARGV[3])
return {moved, read, ring, next_due, expiry, unheld and 1 or 0, redis.call('ZCARD', HOLDS), digits(NOW)}
