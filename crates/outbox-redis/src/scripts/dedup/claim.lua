-- Claims ids. KEYS: for each id its own, then its buckets.
-- ARGV, from 5 on: the lease, the token, then each id in the compact layout.
-- Answers the moment, then for each id 0 for acquired, -1 for done, else for how many milliseconds
-- another holds it; the moment alone where the period is another one.
if stale() then
  return {micros}
end
local lease, token = after(tonumber(ARGV[5])), ARGV[6]
local answers = {micros}
for at = 1, #KEYS / (1 + buckets) do
  local place = 1 + (at - 1) * (1 + buckets)
  local key = KEYS[place]
  local answer
  if bucket_of(place + 1, ARGV[6 + at]) then
    answer = -1
  elseif not call('SET', key, token, 'NX', 'GET', 'PXAT', lease) then
    answer = 0
  else
    local held, left = own(key)
    if held == DONE then
      answer = -1
    elseif held then
      answer = left
    else
      call('SET', key, token, 'PXAT', lease)
      answer = 0
    end
  end
  answers[at + 1] = answer
end
return answers
