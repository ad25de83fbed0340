-- Records an id as done, whoever claims it. KEYS: its own, then its buckets, from the one that ends
-- first to the one that ends last.
-- ARGV, from 5 on: the time to live, which of the buckets it goes to, when that one ends, and
-- in the compact layout the id.
-- Answers the moment, then whether it is news; the moment alone where the period is another one.
if stale() then
  return {micros}
end
local key, life = KEYS[1], tonumber(ARGV[5])
if buckets == 0 then
  local held, left = own(key)
  local known = held == DONE
  -- What is remembered longer already stays so.
  call('SET', key, DONE, 'PXAT', after(known and math.max(life, left) or life))
  return {micros, known and 0 or 1}
end
local target, id = 1 + tonumber(ARGV[6]), ARGV[8]
local known = bucket_of(2, id)
if not known or known < target then
  remember(KEYS[target], id, tonumber(ARGV[7]))
  if known then
    call('HDEL', KEYS[known], id)
  end
end
call('DEL', key)
return {micros, known and 0 or 1}
