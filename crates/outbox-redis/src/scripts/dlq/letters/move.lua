-- Moves messages that fail out of the queue into quarantine.
-- ARGV: group, now, 1 where entries stay for other groups, and for each message its id, when it
-- failed first and last, and the last failure's kind and text
-- Answers a letter for each that it came to: m moved, f in flight, u not known to have come back.
local stays = ARGV[3] == '1'

local function pending(id)
  return #redis.call('XPENDING', STREAM, GROUP, id, id, 1) > 0
end

local bytes = 0
local function move(place)
  local message = ARGV[place]
  local id = redis.call('HGET', BACK, 'm' .. message)
  local packed = id and redis.call('HGET', RETURNED, id)
  local entry = id and not packed and entry_of(STREAM, id)
  if not packed and not entry then
    return 'u'
  end
  -- One that others have still to pass is left where it is: it will be handed out soon.
  if entry and (stays or pending(id)) then
    return 'f'
  end
  local fields = packed and cmsgpack.unpack(packed) or entry[2]
  local record = record_of(id, fields)
  if id_in(record.m) ~= message then
    return 'u'
  end
  if (record.h or '') == '' then
    record.f, record.l = record.f or ARGV[place + 1], ARGV[place + 2]
    record.x, record.p = ARGV[place + 3], ARGV[place + 4]
  end
  rest(id, record)
  if packed then
    redis.call('HDEL', RETURNED, id)
    redis.call('ZREM', DELAYED, id)
  else
    redis.call('XDEL', STREAM, id)
  end
  forget_back({id}, {})
  bytes = bytes + size_of(fields)
  return 'm'
end

local answers = {}
for place = 4, #ARGV, 5 do
  if bytes >= BYTES then
    break
  end
  answers[#answers + 1] = move(place)
end
return table.concat(answers)
