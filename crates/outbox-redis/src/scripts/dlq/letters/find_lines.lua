-- Answers the lines in LETTERS of letters that are named by their numbers.
-- ARGV: group, now, what the lines begin with
local lines = {}
for place = 3, #ARGV do
  local from = ARGV[place]
  for _, line in ipairs(redis.call('ZRANGEBYLEX', LETTERS, '[' .. from, '(' .. from .. '\255')) do
    lines[#lines + 1] = line
  end
end
return lines
