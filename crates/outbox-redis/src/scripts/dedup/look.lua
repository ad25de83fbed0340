-- Looks an id up. KEYS: its own, then its buckets. ARGV[5]: the id in the compact layout.
-- Answers the moment, then whether it is done; the moment alone where the period is another one.
if stale() then
  return {micros}
end
local done = own(KEYS[1]) == DONE or bucket_of(2, ARGV[5])
return {micros, done and 1 or 0}
