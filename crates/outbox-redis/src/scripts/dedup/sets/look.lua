-- Looks an id up. ARGV[5]: the id.
-- Answers the moment, then whether it is done; the moment alone where the rotation is another one.
if stale() then
  return {micros}
end
local done = 0
meet_done({ARGV[5]}, function()
  done = 1
end)
return {micros, done}
