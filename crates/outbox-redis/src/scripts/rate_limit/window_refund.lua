-- Gives permits back in the window that they were taken in. KEYS: the counter.
-- ARGV: the moment; how many microseconds before it they were taken; where that window begins and
-- ends; the permits.
-- Answers when they were taken, then whether that window was still there; the first alone where it
-- is in another window.
local now = moment(ARGV[1])
local taken_at = now - tonumber(ARGV[2])
local start, permits = ARGV[3], tonumber(ARGV[5])
if taken_at < tonumber(start) or taken_at >= tonumber(ARGV[4]) then
  return {taken_at}
end
local held = call('HMGET', KEYS[1], 'start', 'taken', 'earlier', 'earlier_taken')
if held[1] == start then
  call('HSET', KEYS[1], 'taken', math.max(tonumber(held[2]) - permits, 0))
elseif held[3] == start then
  call('HSET', KEYS[1], 'earlier_taken', math.max(tonumber(held[4]) - permits, 0))
else
  return {taken_at, 0}
end
return {taken_at, 1}
