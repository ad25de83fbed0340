-- Records claimed ids as done. KEYS: for each id its own, then its bucket, if any.
-- ARGV, from 5 on: the time to live, which of the live buckets that means, when that one ends, then the
-- claims.
-- Answers the moment, then for each id whether it took effect; the moment alone where the period is
-- another one.
if stale() then
  return {micros}
end
local life, ends = after(tonumber(ARGV[5])), tonumber(ARGV[7])
local answers = {micros}
local held, completed = owned(1 + buckets), {}
local tokens, ids = claimed(8)
for at, token in ipairs(tokens) do
  local place = 1 + (at - 1) * (1 + buckets)
  local key = KEYS[place]
  local live = held[at] == token and not completed[key]
  completed[key] = live or completed[key]
  if live and buckets > 0 then
    remember(KEYS[place + 1], ids[at], ends)
    call('DEL', key)
  elseif live then
    -- The one command for each id here; that its key can be read is seen by now.
    redis.call('SET', key, DONE, 'PXAT', life)
  end
  answers[at + 1] = live and 1 or 0
end
return answers
