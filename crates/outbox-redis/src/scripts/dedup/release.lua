-- Gives claims back. KEYS: the own key of each id. ARGV, from 5 on: the claims.
-- Answers the moment, then for each claim whether it took effect.
local answers, tokens = {micros}, claimed(5)
for place, key in ipairs(KEYS) do
  local live = own(key) == tokens[place]
  if live then
    call('DEL', key)
  end
  answers[#answers + 1] = live and 1 or 0
end
return answers
