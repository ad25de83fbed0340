-- Records claimed ids as done. KEYS: for each id its own, then its bucket, if any.
-- ARGV, from 5 on: the time to live, which of the live buckets that means, when that one ends, then
-- for each id itself and its token.
-- Answers the moment, then for each id whether it took effect; the moment alone where the period is
-- another one.
if stale() then
  return {micros}
end
local life, ends = after(tonumber(ARGV[5])), tonumber(ARGV[7])
local answers = {micros}
local held, completed = owned(1 + buckets), {}
local place = 1
for n = 8, #ARGV, 2 do
  local key = KEYS[place]
  local live = held[(n - 6) / 2] == ARGV[n + 1] and not completed[key]
  completed[key] = live or completed[key]
  if live and buckets > 0 then
    remember(KEYS[place + 1], ARGV[n], ends)
    call('DEL', key)
  elseif live then
    call('SET', key, DONE, 'PXAT', life)
  end
  answers[#answers + 1] = live and 1 or 0
  place = place + 1 + buckets
end
return answers
