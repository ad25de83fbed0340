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

-- Ids are remembered in sets, one for each half of a window: three of them are asked, so that an
-- id is known for one window at least and for one and a half at most.
local bucket = math.floor(NOW / half)
local function seen_in(number)
  return SEEN .. ':' .. digits(number)
end
local known = {}
for back = 0, 2 do
  local seen = seen_in(bucket - back)
  if redis.call('EXISTS', seen) == 1 then
    for place, member in ipairs(redis.call('SMISMEMBER', seen, unpack(ids))) do
      if member == 1 then
        known[place], all_new = true, false
      end
    end
  end
end

local function find_room()
  return high_water - redis.call('XLEN', STREAM) - redis.call('ZCARD', DELAYED)
end
local room = find_room()
if room < #ids and ARGV[5] == '1' and redis.call('EXISTS', STREAM) == 1 then
  trim()
  room = find_room()
end

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
  local seen = seen_in(bucket)
  redis.call('SADD', seen, unpack(added))
  redis.call('PEXPIRE', seen, digits(math.ceil(half * 4 / 1000) + LATER))
  -- Big sets are to go without stopping the server, which their expiry might.
  redis.call('UNLINK', seen_in(bucket - 3))
end
return answers
