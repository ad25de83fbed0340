-- Adds messages whose ids are not known, as long as there is room.
-- ARGV: group, now, high-water mark, half of the window, 1 where entries stay for other groups,
-- frames
-- Answers a letter for each: a added, k known, f refused for want of room.
local high_water, half = tonumber(ARGV[3]), tonumber(ARGV[4])
local ids = {}
for place = 6, #ARGV do
  ids[place - 5] = string.sub(ARGV[place], 22, 37)
end

-- Ids are remembered in sets, one for each half of a window: three of them are asked, so that an
-- id is known for one window at least and for one and a half at most.
local bucket = math.floor(NOW / half)
local known = {}
for back = 0, 2 do
  local members = redis.call('SMISMEMBER', SEEN .. ':' .. digits(bucket - back), unpack(ids))
  for place, member in ipairs(members) do
    known[place] = known[place] or member == 1
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
local answers, added, here = {}, {}, {}
for place, id in ipairs(ids) do
  if known[place] or here[id] then
    answers[place] = 'k'
  elseif room <= 0 then
    answers[place] = 'f'
  else
    -- The server's own moment stands in the entry's id.
    if ARGV[2] == '' then
      redis.call('XADD', STREAM, '*', 'm', ARGV[place + 5])
    else
      redis.call('XADD', STREAM, '*', 'm', ARGV[place + 5], 't', digits(NOW))
    end
    room = room - 1
    here[id] = true
    added[#added + 1] = id
    answers[place] = 'a'
  end
end

if #added > 0 then
  local seen = SEEN .. ':' .. digits(bucket)
  redis.call('SADD', seen, unpack(added))
  redis.call('PEXPIRE', seen, digits(math.ceil(half * 4 / 1000) + LATER))
  -- Big sets are to go without stopping the server, which their expiry might.
  redis.call('UNLINK', SEEN .. ':' .. digits(bucket - 3))
end
return table.concat(answers)
