-- Gives permits of a steady rate back: of those that were not earned back since. KEYS: the debt.
-- ARGV: the moment; the microseconds in which a permit is earned; the permits; how many
-- microseconds before the moment they were taken. Answers whether any were given back.
local unearned = tonumber(ARGV[2]) * tonumber(ARGV[3]) - tonumber(ARGV[4])
local debt = debt_of(KEYS[1])
if unearned <= 0 or debt <= now then
  return {0}
end
debt = debt - unearned
if debt > now then
  owe(KEYS[1], debt)
else
  call('DEL', KEYS[1])
end
return {1}
