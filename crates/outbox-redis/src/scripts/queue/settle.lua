-- Records what became of deliveries, fenced: all of them together, and what is added before what is
-- taken away, because a script that fails halfway takes nothing back.
-- ARGV: group, now, 1 where entries stay for other groups, and then runs of settlements: an outcome,
-- the owner and token that they were delivered under, how many, and for each its entry and
--   done: nothing, retry: delay, when it failed, failure, later: delay,
--   quarantine: when it failed, failure, unreadable: problem
-- The entries of a run ascend.
-- Answers the places of those whose lease was lost, and of those whose entry is gone.
local HISTORY = 16
local WIDTH = {done = 1, retry = 4, later = 2, quarantine = 3, unreadable = 2}
local stays = ARGV[3] == '1'

-- Takes what was settled out of the stream and of what is held.
local function take_out(...)
  -- In this order: what is refused halfway, as by an access rule, leaves entries that come again.
  if not stays then
    redis.call('XDEL', STREAM, ...)
  end
  redis.call('XACK', STREAM, GROUP, ...)
  redis.call('HDEL', HELD, ...)
end

-- The usual case, in as few steps for each entry as there can be: all are done, and held under the
-- proofs that they are settled with. Whether it was that; if not, nothing has been written.
local function all_done()
  local runs, proofs, values, place = {}, {}, {}, 4
  while place <= #ARGV do
    local proof, first = ARGV[place + 1], place + 3
    local last = place + 2 + tonumber(ARGV[place + 2])
    if ARGV[place] ~= 'done' or proofs[proof] or last - first >= CHUNK then
      return false
    end
    local value, since = nil, 1
    local held = redis.call('HMGET', HELD, unpack(ARGV, first, last))
    for at = 1, #held do
      if held[at] ~= value then
        if not held[at] or string.sub(held[at], 1, #proof) ~= proof then
          return false
        end
        if value then
          values[value] = (values[value] or 0) + at - since
        end
        value, since = held[at], at
      end
    end
    values[value] = (values[value] or 0) + #held + 1 - since
    proofs[proof], runs[#runs + 1] = true, {first, last}
    place = last + 1
  end
  -- Fails before anything was written where a key is of another type.
  redis.call('HLEN', BACK)
  for _, run in ipairs(runs) do
    take_out(unpack(ARGV, run[1], run[2]))
  end
  take_from_holds(holds_in(values))
  if redis.call('EXISTS', BACK) == 1 then
    for _, run in ipairs(runs) do
      forget_back({unpack(ARGV, run[1], run[2])}, {})
    end
  end
  return true
end

if all_done() then
  return {{}, {}}
end

local ids, outcomes, proofs, places = {}, {}, {}, {}
local plain = true
local place = 4
while place <= #ARGV do
  local outcome, proof, count = ARGV[place], ARGV[place + 1], tonumber(ARGV[place + 2])
  place = place + 3
  plain = plain and outcome == 'done'
  for _ = 1, count do
    local at = #ids + 1
    ids[at], outcomes[at], proofs[at], places[at] = ARGV[place], outcome, proof, place
    place = place + WIDTH[outcome]
  end
end

-- Entries that were delivered together have the same value, most often one after the other.
local live, lost, values, settled = {}, {}, {}, {}
local last_value, last_proof, proven
for at, value in ipairs(held_of(ids)) do
  local proof, id = proofs[at], ids[at]
  if value ~= last_value or proof ~= last_proof then
    last_value, last_proof = value, proof
    proven = value and string.sub(value, 1, #proof) == proof
  end
  if proven and not settled[id] then
    values[value] = (values[value] or 0) + 1
    settled[id] = true
    live[#live + 1] = at
  else
    lost[#lost + 1] = at - 1
  end
end

-- Fails before anything was written where a key is of another type.
redis.call('HLEN', BACK)
if not plain then
  redis.call('ZCARD', DELAYED)
  redis.call('HLEN', RETURNED)
  redis.call('XLEN', QUARANTINE)
  redis.call('XLEN', BELL)
end

-- The last ones of a history, whose records stand each behind its length, so that one more fits.
local function cut(history)
  local starts, from = {}, 1
  while from <= #history do
    starts[#starts + 1] = from
    from = from + 4 + struct.unpack('<I4', history, from)
  end
  return #starts < HISTORY and history or string.sub(history, starts[#starts - HISTORY + 2])
end

-- Notes one more failed attempt, which ends the count of takeovers.
local function fail(record, failed_at, failure)
  local history = cut(record.h or '')
  record.a = digits(tonumber(record.a or 0) + 1)
  record.k = nil
  record.f = record.f or failed_at
  record.h = history .. struct.pack('<I4', #failure) .. failure
end

local rings, delayed = false, {}
local function bring_back(id, record, delay)
  if stays then
    record.g = GROUP
  end
  local due = NOW + tonumber(delay)
  if due <= NOW then
    note_back(record.m, redis.call('XADD', STREAM, '*', unpack(fields_of(record))))
    return
  end
  local first = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
  rings = rings or not first[2] or due < tonumber(first[2])
  redis.call('HSET', RETURNED, id, cmsgpack.pack(fields_of(record)))
  redis.call('ZADD', DELAYED, digits(due), id)
  note_back(record.m, id)
  delayed[id] = true
end

local conclude = {
  retry = function(id, fields, at)
    local record = record_of(id, fields)
    fail(record, ARGV[at + 2], ARGV[at + 3])
    bring_back(id, record, ARGV[at + 1])
  end,
  later = function(id, fields, at)
    local record = record_of(id, fields)
    -- The first delivery was no takeover, all others were.
    local pending = redis.call('XPENDING', STREAM, GROUP, id, id, 1)[1]
    local takeovers = tonumber(record.k or 0) + (pending and pending[4] - 1 or 0)
    record.k = takeovers > 0 and digits(takeovers) or nil
    bring_back(id, record, ARGV[at + 1])
  end,
  quarantine = function(id, fields, at)
    local record = record_of(id, fields)
    fail(record, ARGV[at + 1], ARGV[at + 2])
    record.l = ARGV[at + 1]
    rest(id, record)
  end,
  unreadable = function(id, fields, at)
    local record, raw = record_of(id, fields), cmsgpack.pack(fields)
    rest(id, {o = record.o, r = record.r, p = ARGV[at + 1], l = digits(NOW), raw = raw})
  end,
}

local gone, taken = {}, {}
for _, at in ipairs(live) do
  local id, outcome = ids[at], outcomes[at]
  taken[#taken + 1] = id
  if outcome ~= 'done' then
    local entry = redis.call('XRANGE', STREAM, id, id)[1]
    if entry then
      conclude[outcome](id, entry[2], places[at])
    else
      gone[#gone + 1] = at - 1
    end
  end
end

each_chunk(taken, take_out)
take_from_holds(holds_in(values))
forget_back(taken, delayed)
if rings then
  redis.call('XADD', BELL, 'MAXLEN', 1, '*', 'due', '1')
end
return {lost, gone}
