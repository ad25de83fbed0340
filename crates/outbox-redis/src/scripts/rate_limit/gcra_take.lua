-- Takes permits of a steady rate. KEYS: the debt.
-- ARGV: the moment; the microseconds in which a permit is earned; the burst; the permits.
-- Answers whether they are allowed, then how many are left of the burst, or for how many
-- microseconds to wait.
local interval, burst, permits = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ceiling = now + interval * burst
local debt = debt_of(KEYS[1])
-- A debt that nobody could make by now is from a clock that ran more than a minute ahead.
if debt < now or debt > ceiling + 60000000 then
  debt = now
end
debt = debt + interval * permits
if debt > ceiling then
  return {0, debt - ceiling}
end
owe(KEYS[1], debt)
return {1, math.floor((ceiling - debt) / interval)}
