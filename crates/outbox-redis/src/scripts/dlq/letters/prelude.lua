-- What every script of the quarantine begins with, behind what scripts of the queue begin with.
-- QUARANTINE has the dead letters; LETTERS has what filters ask for of each, by number, and ORDER the
-- same by where it stood in what it left; NAMES counts how many have each name. These three know all
-- letters up to FILLED: whoever asks first fills in the others.
local LETTERS, ORDER, NAMES, AUDIT, FILLED = unpack(KEYS, 12)

-- About the most bytes of entries that one script goes through.
local BYTES = 8 * 1024 * 1024

-- How many entries are read at once.
local FEW = 16

local function size_of(fields)
  local size = 0
  for _, value in ipairs(fields) do
    size = size + #value
  end
  return size
end

-- Meets entries of a stream in their order, until there were `most` or their bytes are many; answers
-- where to go on, or nothing at the end.
local function meet_entries(stream, from, to, most, meet)
  local bytes, met = 0, 0
  while met < most and bytes < BYTES do
    local few = math.min(FEW, most - met)
    local page = redis.call('XRANGE', stream, from, to, 'COUNT', few)
    for _, entry in ipairs(page) do
      meet(entry)
      bytes, met, from = bytes + size_of(entry[2]), met + 1, '(' .. entry[1]
    end
    if #page < few then
      return ''
    end
  end
  return from
end

local function entry_of(stream, id)
  return redis.call('XRANGE', stream, id, id)[1]
end

-- Forgets a letter that has left: its lines in LETTERS and ORDER, and its name.
local function forget_letter(line, line_in_order, name)
  if redis.call('ZREM', LETTERS, line) == 0 then
    return
  end
  redis.call('ZREM', ORDER, line_in_order)
  if redis.call('HINCRBY', NAMES, name, -1) <= 0 then
    redis.call('HDEL', NAMES, name)
  end
end

-- Whether the message of a letter was enqueued once more since the letter's own entry was: its id is
-- in a later set than that entry's moment is in. Of what came from elsewhere no entry was here.
local function came_again(record, half)
  local own, again = not record.i and half_of(tonumber(record.t), half), false
  meet_seen(SEEN, half_of(NOW, half), {id_in(record.m)}, function(_, number)
    again = again or not own or number > own
  end)
  return again
end

-- How many actions the audit keeps, the last ones, and about how many it forgets at once.
local ACTIONS, OLD = 10000, 100

local function forget_old_actions(last)
  local first = tonumber(redis.call('HGET', AUDIT, 'first') or 1)
  local to = math.min(last - ACTIONS, first + OLD)
  for number = first, to do
    local step = redis.call('HGET', AUDIT, digits(number))
    if step then
      redis.call('HDEL', AUDIT, digits(number), 'a' .. cmsgpack.unpack(step)[2])
    end
  end
  if to >= first then
    redis.call('HSET', AUDIT, 'first', digits(to + 1))
  end
end

-- Records a step of an action, told from a place in ARGV on: kind, action, by, reason, what, when.
local LETTERS_SO_FAR, ENDED_AT = 6, 8
local function record_step(place, letters)
  local at, known = ARGV[place + 5], 'a' .. ARGV[place + 1]
  local number, step = redis.call('HGET', AUDIT, known), nil
  if number then
    step = cmsgpack.unpack(redis.call('HGET', AUDIT, number))
    step[LETTERS_SO_FAR] = step[LETTERS_SO_FAR] + letters
    step[ENDED_AT] = at
  else
    number = digits(redis.call('HINCRBY', AUDIT, 'last', 1))
    step = {ARGV[place], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3], ARGV[place + 4], letters, at, at}
    redis.call('HSET', AUDIT, known, number)
    forget_old_actions(tonumber(number))
  end
  redis.call('HSET', AUDIT, number, cmsgpack.pack(step))
end

-- Fails before anything was written where a key is of another type.
redis.call('XLEN', QUARANTINE)
redis.call('XLEN', STREAM)
redis.call('HLEN', BACK)
redis.call('HLEN', RETURNED)
redis.call('ZCARD', DELAYED)
redis.call('ZCARD', LETTERS)
redis.call('ZCARD', ORDER)
redis.call('HLEN', NAMES)
redis.call('HLEN', AUDIT)
