-- Extends claims. KEYS: the own key of each id. ARGV, from 5 on: the lease, then the claims.
-- Answers the moment, then for each claim whether it took effect.
local lease = after(tonumber(ARGV[5]))
local answers, tokens = {micros}, claimed(6)
for place, key in ipairs(KEYS) do
  local live = own(key) == tokens[place]
  if live then
    call('PEXPIREAT', key, lease)
  end
  answers[#answers + 1] = live and 1 or 0
end
return answers
