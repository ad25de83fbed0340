-- Records what became of deliveries, fenced: all of them together, and what is added before what is
-- taken away, because a script that fails halfway takes nothing back.
-- ARGV: group, now, 1 where entries stay for other groups, and then runs of settlements: an outcome,
-- the owner and token that they were delivered under, how many, and for each its entry and
--   done: nothing, retry: delay, when it failed, failure, later: delay,
--   quarantine: when it failed, failure, unreadable: problem
-- The entries of a run ascend, and so do the runs of one owner and token.
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

-- What is settled: entries by themselves, and runs of what is all done, of a batch or not. How many
-- have each value of HELD, and are in each batch.
local ids, outcomes, places, counted = {}, {}, {}, {}
local runs, lost, values, batched = {}, {}, {}, {}

local function count(value, token, entries)
  values[value] = (values[value] or 0) + entries
  if token then
    batched[token] = (batched[token] or 0) + entries
  end
end

-- What would stand in HELD of each entry, were its batch dissolved; false where nothing would.
local function held_in(value, some)
  local pending, held = pending_of(some), {}
  for at, id in ipairs(some) do
    held[at] = pending[id] and value or false
  end
  return held
end

-- Whether all of these are held with the proof: then they are counted.
local function all_held(held, proof)
  local counts, value, since = {}, nil, 1
  for at = 1, #held do
    if held[at] ~= value then
      if not held[at] or string.sub(held[at], 1, #proof) ~= proof then
        return false
      end
      if value then
        counts[value] = (counts[value] or 0) + at - since
      end
      value, since = held[at], at
    end
  end
  counts[value] = (counts[value] or 0) + #held + 1 - since
  for each, entries in pairs(counts) do
    count(each, nil, entries)
  end
  return true
end

-- The value and the token of the batch that is held with a proof, asked for once.
local batches = {}
local function batch_with(proof)
  if batches[proof] == nil then
    local value, token = batch_of(proof)
    batches[proof] = value and {value = value, token = token} or false
  end
  return batches[proof]
end

-- Parts what is held with the proof it is settled with from what is lost: entries from `place` on, of
-- which the first is the one at `at` of all.
local function part(outcome, proof, entries, place, at)
  local batch = batch_with(proof)
  if batch and outcome == 'done' then
    -- That none of them was settled before, their removal shows.
    runs[#runs + 1] = {first = place, last = place + entries - 1, at = at, batch = batch}
    count(batch.value, batch.token, entries)
    return
  end
  local some, width = {}, WIDTH[outcome]
  for nth = 1, entries do
    some[nth] = ARGV[place + (nth - 1) * width]
  end
  local held = batch and held_in(batch.value, some) or held_of(some)
  if outcome == 'done' and all_held(held, proof) then
    runs[#runs + 1] = {first = place, last = place + entries - 1}
    return
  end
  for nth, is in ipairs(held) do
    if is and string.sub(is, 1, #proof) == proof then
      local number = #ids + 1
      ids[number], outcomes[number], places[number] = some[nth], outcome, place + (nth - 1) * width
      counted[number] = at + nth - 1
      count(is, batch and batch.token, 1)
    else
      lost[#lost + 1] = at + nth - 1
    end
  end
end

local plain, last_of, at, place = true, {}, 0, 4
while place <= #ARGV do
  local outcome, proof, entries = ARGV[place], ARGV[place + 1], tonumber(ARGV[place + 2])
  plain = plain and outcome == 'done'
  place = place + 3
  -- Whoever settles one twice begins a run with it the second time.
  if ARGV[place] == last_of[proof] then
    lost[#lost + 1] = at
    at, place, entries = at + 1, place + WIDTH[outcome], entries - 1
  end
  while entries > 0 do
    local some = math.min(entries, CHUNK)
    part(outcome, proof, some, place, at)
    last_of[proof] = ARGV[place + (some - 1) * WIDTH[outcome]]
    at, place, entries = at + some, place + some * WIDTH[outcome], entries - some
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

local gone = {}
for number, id in ipairs(ids) do
  local outcome = outcomes[number]
  if outcome ~= 'done' then
    local entry = redis.call('XRANGE', STREAM, id, id)[1]
    if entry then
      conclude[outcome](id, entry[2], places[number])
    else
      gone[#gone + 1] = counted[number]
    end
  end
end

-- Takes out what is left of a batch among these, of which some were deleted before: those that are
-- not pending were settled before.
local function take_some_out(run)
  local some, left = {unpack(ARGV, run.first, run.last)}, {}
  local pending = pending_of(some)
  for nth, id in ipairs(some) do
    if pending[id] then
      left[#left + 1] = id
    else
      lost[#lost + 1] = run.at + nth - 1
      count(run.batch.value, run.batch.token, -1)
    end
  end
  each_chunk(left, function(...)
    redis.call('XACK', STREAM, GROUP, ...)
  end)
  forget_back(left, {})
end

each_chunk(ids, take_out)
local back = redis.call('EXISTS', BACK) == 1
for _, run in ipairs(runs) do
  local first, last = run.first, run.last
  if run.batch and redis.call('XDEL', STREAM, unpack(ARGV, first, last)) < last - first + 1 then
    take_some_out(run)
  else
    if run.batch then
      redis.call('XACK', STREAM, GROUP, unpack(ARGV, first, last))
    else
      take_out(unpack(ARGV, first, last))
    end
    if back then
      forget_back({unpack(ARGV, first, last)}, {})
    end
  end
end
for token, entries in pairs(batched) do
  take_from_batch(token, entries)
end
take_from_holds(holds_in(values))
forget_back(ids, delayed)
if rings then
  redis.call('XADD', BELL, 'MAXLEN', 1, '*', 'due', '1')
end
return {lost, gone}
