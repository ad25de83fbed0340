-- What every script of a queue begins with: its keys, the group, and the present moment.
-- Moments and durations are microseconds.
local STREAM, HELD, HOLDS, COUNTS, DELAYED, RETURNED, BELL, QUARANTINE, SEEN, BACK, BATCHES = unpack(
  KEYS)
local GROUP, NOW, LATER = ARGV[1], moment(ARGV[2])

-- The most arguments that are handed to one command.
local CHUNK = 4000

-- Up to so many fields, a hash that is a list is as quick as any other.
local SMALL = 16

-- Runs a command with the items of a list behind its fixed arguments, in chunks.
local function each_chunk(items, run)
  for from = 1, #items, CHUNK do
    run(unpack(items, from, math.min(from + CHUNK - 1, #items)))
  end
end

-- What stands in HELD of each entry: its owner (16 bytes), the token of its delivery, a bar, and
-- when its lease ends; nothing where it is not held.
local function held_of(ids)
  if #ids > 0 and #ids <= CHUNK then
    return redis.call('HMGET', HELD, unpack(ids))
  end
  local values = {}
  each_chunk(ids, function(...)
    for _, value in ipairs(redis.call('HMGET', HELD, ...)) do
      values[#values + 1] = value
    end
  end)
  return values
end

-- A hold is an owner and a moment: all that he holds until then. HOLDS has them by their moment,
-- COUNTS how many entries each has.
local function hold_in(value)
  local bar = string.find(value, '|', 17, true)
  return string.sub(value, 1, 16) .. string.sub(value, bar + 1)
end

-- How many entries are in each hold, where it is known how many have each value.
local function holds_in(values)
  local holds = {}
  for value, count in pairs(values) do
    local hold = hold_in(value)
    holds[hold] = (holds[hold] or 0) + count
  end
  return holds
end

local function add_to_hold(hold, entries)
  redis.call('HINCRBY', COUNTS, hold, entries)
  redis.call('ZADD', HOLDS, string.sub(hold, 17), hold)
end

-- Takes entries out of holds, and forgets those that are empty. There may be none of one: its
-- negative would be -0, which the server takes for no number.
local function take_from_holds(entries)
  for hold, count in pairs(entries) do
    if redis.call('HINCRBY', COUNTS, hold, 0 - count) <= 0 then
      redis.call('HDEL', COUNTS, hold)
      redis.call('ZREM', HOLDS, hold)
    end
  end
end

-- Notes what stands in HELD of entries: each id, and its value.
local function set_held(pairs_of)
  -- A hash that begins small is a list, in which every field is searched for from its start; one
  -- with a long value is none, and stays so when that value goes.
  if #pairs_of > 2 * SMALL and redis.call('EXISTS', HELD) == 0 then
    redis.call('HSET', HELD, pairs_of[1], pairs_of[2] .. string.rep(' ', 65))
  end
  each_chunk(pairs_of, function(...)
    redis.call('HSET', HELD, ...)
  end)
end

-- A token that was not given out before, not even by a server that lost the last ones.
local function next_token()
  local last = tonumber(redis.call('HGET', COUNTS, 'token') or 0)
  local token = digits(math.max(last + 1, NOW))
  redis.call('HSET', COUNTS, 'token', token)
  return token
end

-- Notes that the owner holds these entries, and answers the token of the delivery.
local function hold(owner, lease, ids)
  local ends = digits(NOW + lease)
  local token = next_token()
  -- Before its entries, in case those are refused: what is held without a hold would never be taken
  -- over, and a hold without entries only ends.
  add_to_hold(owner .. ends, #ids)
  local value, pairs_of = owner .. token .. '|' .. ends, {}
  for place, id in ipairs(ids) do
    pairs_of[2 * place - 1] = id
    pairs_of[2 * place] = value
  end
  set_held(pairs_of)
  return token
end

-- When the first hold of anybody but the owner ends; an empty text where nobody holds anything.
local function next_expiry(owner)
  local from = 0
  while true do
    local holds = redis.call('ZRANGE', HOLDS, from, from + 99, 'WITHSCORES')
    for place = 1, #holds, 2 do
      if string.sub(holds[place], 1, 16) ~= owner then
        return digits(tonumber(holds[place + 1]))
      end
    end
    if #holds < 200 then
      return ''
    end
    from = from + 100
  end
end
