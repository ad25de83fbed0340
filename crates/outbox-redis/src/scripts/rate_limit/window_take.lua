-- Takes permits in a window. KEYS: the counter, a hash of the two windows that were opened last, so
-- that a clock that goes back a little frees nothing.
-- ARGV: the moment; where the window begins and ends, in microseconds; its limit; the permits.
-- Answers the moment, then whether they are allowed, then how many are left, or for how many
-- microseconds to wait; the moment alone where it is in another window.
local now, ahead = moment(ARGV[1])
local start, ends = ARGV[2], tonumber(ARGV[3])
local limit, permits = tonumber(ARGV[4]), tonumber(ARGV[5])
if now < tonumber(start) or now >= ends then
  return {now}
end
local held = call('HMGET', KEYS[1], 'start', 'taken', 'earlier', 'earlier_taken')
local is_earlier = held[1] ~= start and held[3] == start
local taken = 0
if held[1] == start then
  taken = tonumber(held[2])
elseif is_earlier then
  taken = tonumber(held[4])
end
if taken + permits > limit then
  return {now, 0, ends - now}
end
if is_earlier then
  call('HSET', KEYS[1], 'earlier_taken', taken + permits)
else
  if held[1] and held[1] ~= start then
    call('HSET', KEYS[1], 'earlier', held[1], 'earlier_taken', held[2])
  end
  call('HSET', KEYS[1], 'start', start, 'taken', taken + permits)
  call('PEXPIREAT', KEYS[1], digits(math.ceil(ends / 1000) + 60000 + ahead))
end
return {now, 1, limit - taken - permits}
