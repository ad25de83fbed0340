-- Sends dead letters back to the end of the queue.
-- ARGV: group, now, the step of an action (see record_step), 1 where entries stay for other groups, 1
-- where attempts go on, 1 for a dry run, half of the window for which ids are remembered, high-water
-- mark, and for each letter its entry, lines in LETTERS and ORDER, name, and 1 where its message was
-- looked for in the queue and is not there for the first time
-- Answers a letter for each: m sent back, t its message is in the queue already, g not here any more;
-- fewer where the queue is full.
local STEP, FLAGS, FIRST_LETTER, WIDTH = 3, 9, 14, 5
local stays, goes_on, dry = ARGV[FLAGS] == '1', ARGV[FLAGS + 1] == '1', ARGV[FLAGS + 2] == '1'
local half = tonumber(ARGV[FLAGS + 3])

local function is_there(record, looked_for)
  local id = redis.call('HGET', BACK, 'm' .. id_in(record.m))
  if id and (redis.call('HEXISTS', RETURNED, id) == 1 or entry_of(STREAM, id)) then
    return true
  end
  return not looked_for and came_again(record, half)
end

-- What only a letter has.
local OF_LETTERS = {'k', 'l', 'p', 'q', 'x', 'i', 'raw'}

local function send_back(id, record)
  -- The place of what came from elsewhere is none of ours.
  if record.i then
    record.o = nil
  end
  for _, name in ipairs(OF_LETTERS) do
    record[name] = nil
  end
  if not goes_on then
    record.a = nil
  end
  record.g = stays and GROUP or nil
  record.r, record.t = digits(tonumber(record.r or 0) + 1), digits(NOW)
  note_back(record.m, redis.call('XADD', STREAM, '*', unpack(fields_of(record))))
end

local room = math.huge
if not dry then
  room = room_for((#ARGV + 1 - FIRST_LETTER) / WIDTH, tonumber(ARGV[FLAGS + 4]), stays)
end
local answers, sent, going, full = {}, {}, {}, false
for place = FIRST_LETTER, #ARGV, WIDTH do
  local id, answer = ARGV[place], 'm'
  local entry = entry_of(QUARANTINE, id)
  local record = entry and record_of(id, entry[2])
  local message = record and id_in(record.m)
  if not entry then
    answer = 'g'
  elseif going[message] or is_there(record, ARGV[place + 4] == '1') then
    answer = 't'
  elseif #sent >= room then
    full = true
    break
  else
    going[message], sent[#sent + 1] = true, message
    if not dry then
      send_back(id, record)
      redis.call('XDEL', QUARANTINE, id)
    end
  end
  if answer ~= 't' and not dry then
    forget_letter(ARGV[place + 1], ARGV[place + 2], ARGV[place + 3])
  end
  answers[#answers + 1] = answer
end
-- As enqueueing remembers them, so that nobody adds them again.
if not dry and #sent > 0 then
  remember(SEEN, half_of(NOW, half), half, sent, LATER)
end
if not dry and (#sent > 0 or not full) then
  record_step(STEP, #sent)
end
return table.concat(answers)
