-- Adds messages whose ids are not known, as long as there is room.
-- ARGV: group, now, high-water mark, half of the window, 1 where entries stay for other groups,
-- frames
-- Answers a letter for each: a added, k known, f refused for want of room.
local FRAMES = 5
local high_water, half = tonumber(ARGV[3]), tonumber(ARGV[4])
local ids, met, all_new = {}, {}, true
for place = 1, #ARGV - FRAMES do
  local id = string.sub(ARGV[place + FRAMES], 22, 37)
  ids[place] = id
  all_new = all_new and not met[id]
  met[id] = true
end

local current, known = half_of(NOW, half), {}
meet_seen(SEEN, current, ids, function(place)
  known[place], all_new = true, false
end)
local room = room_for(#ids, high_water, ARGV[5] == '1')

local function add(place)
  -- The server's own moment stands in the entry's id.
  if ARGV[2] == '' then
    redis.call('XADD', STREAM, '*', 'm', ARGV[place + FRAMES])
  else
    redis.call('XADD', STREAM, '*', 'm', ARGV[place + FRAMES], 't', digits(NOW))
  end
end

-- Adds one after the other, and answers the letters; the ids of those added go into a list.
local function add_some(added)
  local answers, here = {}, {}
  for place, id in ipairs(ids) do
    if known[place] or here[id] then
      answers[place] = 'k'
    elseif room <= 0 then
      answers[place] = 'f'
    else
      add(place)
      room = room - 1
      here[id] = true
      added[#added + 1] = id
      answers[place] = 'a'
    end
  end
  return table.concat(answers)
end

-- Most often all are new, and there is room for them.
local added, answers = ids, nil
if all_new and room >= #ids then
  for place = 1, #ids do
    add(place)
  end
  answers = string.rep('a', #ids)
else
  added = {}
  answers = add_some(added)
end

if #added > 0 then
  remember(SEEN, current, half, added, LATER)
end
return answers
