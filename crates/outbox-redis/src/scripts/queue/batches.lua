-- A batch is what one read of many returned and one script leased. BATCHES has by its token what stands
-- in HELD otherwise, and as `i` and the token the ids of its entries with spaces between them: apart,
-- because a script hashes every byte of what it is told. It has as `n` and the token how many of them
-- are left, and as `n` how many of all batches. Whoever does more with an entry of a batch than settle
-- it has the batch's entries noted one by one first.

-- How many entries are held.
local function held_count()
  return redis.call('HLEN', HELD) + tonumber(redis.call('HGET', BATCHES, 'n') or 0)
end

-- Notes that the owner holds these entries, many of them, as one batch; answers its token.
local function hold_batch(owner, lease, entries, ids)
  local ends = digits(NOW + lease)
  local token = next_token()
  -- As in hold(): the hold comes first.
  add_to_hold(owner .. ends, entries)
  redis.call('HINCRBY', BATCHES, 'n', entries)
  redis.call(
    'HSET', BATCHES, 'n' .. token, entries, 'i' .. token, ids, token, owner .. token .. '|' .. ends)
  return token
end

-- What would stand in HELD of each entry of the batch that is held with this proof, and its token;
-- nothing where there is none.
local function batch_of(proof)
  local token = string.sub(proof, 17, -2)
  local value = redis.call('HGET', BATCHES, token)
  if value and string.sub(value, 1, #proof) == proof then
    return value, token
  end
end

-- The ids of the entries that a batch began with. Where they are gone, its entries are none's: read, and
-- never leased.
local function ids_of(token)
  return redis.call('HGET', BATCHES, 'i' .. token) or ''
end

-- Takes entries out of a batch.
local function take_from_batch(token, entries)
  if redis.call('HINCRBY', BATCHES, 'n' .. token, 0 - entries) <= 0 then
    redis.call('HDEL', BATCHES, token, 'i' .. token, 'n' .. token)
  end
  if redis.call('HINCRBY', BATCHES, 'n', 0 - entries) <= 0 then
    redis.call('HDEL', BATCHES, 'n')
  end
end

-- Which of these entries are pending, and so not settled; all of them where the group is gone. They
-- ascend.
local function pending_of(ids)
  local pending = {}
  local function meet(from, to, most)
    local page = redis.call('XPENDING', STREAM, GROUP, from, to, most)
    for _, entry in ipairs(page) do
      pending[entry[1]] = true
    end
    return #page == most and page[most][1]
  end
  local all = redis.pcall('XPENDING', STREAM, GROUP)
  if all.err and not string.find(all.err, 'NOGROUP', 1, true) then
    error(all)
  end
  if all.err then
    for _, id in ipairs(ids) do
      pending[id] = true
    end
  elseif #ids <= SMALL then
    for _, id in ipairs(ids) do
      meet(id, id, 1)
    end
  else
    local last = ids[#ids]
    local reached = meet(ids[1], last, 1000)
    while reached do
      reached = meet('(' .. reached, last, 1000)
    end
  end
  return pending
end

-- Notes what is left of a batch entry by entry.
local function dissolve(token, value)
  local ids, pairs_of = {}, {}
  for id in string.gmatch(ids_of(token), '%S+') do
    ids[#ids + 1] = id
  end
  local pending, left = pending_of(ids), 0
  for place, held in ipairs(held_of(ids)) do
    local id = ids[place]
    if pending[id] and not held then
      left = left + 1
      pairs_of[2 * left - 1], pairs_of[2 * left] = id, value
    end
  end
  set_held(pairs_of)
  local noted, hold = tonumber(redis.call('HGET', BATCHES, 'n' .. token) or 0), hold_in(value)
  add_to_hold(hold, left)
  take_from_batch(token, noted)
  take_from_holds({[hold] = noted})
end
