-- What came back into the queue after a failed attempt, a delay or a quarantine, is found by its
-- message: BACK has for each such message, as `m` and its id, the entry that it is in, and for each
-- such entry the id of its message. What is in the queue for the first time is not in it.

-- The id of the message in a frame.
local function id_in(frame)
  return string.sub(frame or '', 22, 37)
end

-- Notes that the message in a frame is in this entry now.
local function note_back(frame, entry)
  local id = id_in(frame)
  local before = redis.call('HGET', BACK, 'm' .. id)
  if before and before ~= entry then
    redis.call('HDEL', BACK, before)
  end
  -- As with HELD: a long value, and the hash is no list.
  if not before and redis.call('EXISTS', BACK) == 0 then
    redis.call('HSET', BACK, entry, string.rep(' ', 65))
  end
  redis.call('HSET', BACK, 'm' .. id, entry, entry, id)
end

-- Forgets entries that left the queue, but those that are in `kept`.
local function forget_back(entries, kept)
  if redis.call('EXISTS', BACK) == 0 then
    return
  end
  local left = {}
  for _, entry in ipairs(entries) do
    if not kept[entry] then
      left[#left + 1] = entry
    end
  end
  each_chunk(left, function(...)
    for place, id in ipairs(redis.call('HMGET', BACK, ...)) do
      if id then
        local entry = select(place, ...)
        redis.call('HDEL', BACK, entry)
        if redis.call('HGET', BACK, 'm' .. id) == entry then
          redis.call('HDEL', BACK, 'm' .. id)
        end
      end
    end
  end)
end

-- The fields of an entry by their names, with when it was enqueued among them.
local function record_of(id, fields)
  local record = {}
  for at = 1, #fields, 2 do
    record[fields[at]] = fields[at + 1]
  end
  record.t = record.t or string.match(id, '^%d+') .. '000'
  return record
end

local function fields_of(record)
  local fields = {}
  for name, value in pairs(record) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  return fields
end

-- Puts an entry into quarantine. Its place is the first that it had; when it came to rest, the
-- server's clock tells in the letter's own id.
local function rest(id, record)
  record.o = record.o or id
  if ARGV[2] ~= '' then
    record.q = digits(NOW)
  end
  redis.call('XADD', QUARANTINE, '*', unpack(fields_of(record)))
end

-- Moves entries whose time has come back into the stream, at most 100, so that nobody waits long
-- for the server; how many, and when the next is due.
local function move_due()
  local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', NOW, 'LIMIT', 0, 100)
  for _, id in ipairs(due) do
    local packed = redis.call('HGET', RETURNED, id)
    if packed then
      local fields = cmsgpack.unpack(packed)
      note_back(record_of(id, fields).m, redis.call('XADD', STREAM, '*', unpack(fields)))
    end
    redis.call('HDEL', RETURNED, id)
    redis.call('ZREM', DELAYED, id)
  end
  local first = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
  return #due, first[2] and digits(tonumber(first[2])) or ''
end
