-- Sends dead letters back to the end of the queue.
-- ARGV: group, now, the step of an action (see record_step), 1 where entries stay for other groups, 1
-- where attempts go on, 1 for a dry run, half of the window for which ids are remembered, and for each
-- letter its entry, lines in LETTERS and ORDER, and name
-- Answers a letter for each: m sent back, t its message is in the queue already, g not here any more.
local STEP, FLAGS, FIRST_LETTER = 3, 9, 13
local stays, goes_on, dry = ARGV[FLAGS] == '1', ARGV[FLAGS + 1] == '1', ARGV[FLAGS + 2] == '1'
local half = tonumber(ARGV[FLAGS + 3])

local function is_there(message)
  local id = redis.call('HGET', BACK, 'm' .. message)
  return id and (redis.call('HEXISTS', RETURNED, id) == 1 or entry_of(STREAM, id))
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

local answers, sent, going = {}, 0, {}
for place = FIRST_LETTER, #ARGV, 4 do
  local id, answer = ARGV[place], 'm'
  local entry = entry_of(QUARANTINE, id)
  local record = entry and record_of(id, entry[2])
  local message = record and id_in(record.m)
  if not entry then
    answer = 'g'
  elseif going[message] or is_there(message) then
    answer = 't'
  else
    going[message], sent = true, sent + 1
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
if not dry then
  -- As enqueueing remembers them, so that nobody adds them again.
  local seen = SEEN .. ':' .. digits(math.floor(NOW / half))
  for message in pairs(going) do
    redis.call('SADD', seen, message)
  end
  redis.call('PEXPIRE', seen, digits(math.ceil(half * 4 / 1000) + LATER))
  record_step(STEP, sent)
end
return table.concat(answers)
