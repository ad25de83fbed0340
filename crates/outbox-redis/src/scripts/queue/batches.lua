-- A batch is what one read of many returned and one script leased. BATCHES has each by its token: what
-- stands in HELD otherwise, a space, and the ids of its entries with spaces between them. It has as
-- `n` and the token how many of them are left, and as `n` how many of all batches. Whoever does more
-- with an entry of a batch than settle it has the batch's entries noted one by one first.

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
    'HSET', BATCHES, 'n' .. token, entries, token, owner .. token .. '|' .. ends .. ' ' .. ids)
  return token
end

-- What would stand in HELD of each entry of a batch, and the ids of those it began with.
local function value_and_ids(batch)
  local space = string.find(batch, ' ', 17, true)
  return string.sub(batch, 1, space - 1), string.sub(batch, space + 1)
end

-- The batch that is held with this proof, and its token; nothing where there is none.
local function batch_of(proof)
  local token = string.sub(proof, 17, -2)
  local batch = redis.call('HGET', BATCHES, token)
  if batch and string.sub(batch, 1, #proof) == proof then
    return batch, token
  end
end

-- Takes entries out of a batch.
local function take_from_batch(token, entries)
  if redis.call('HINCRBY', BATCHES, 'n' .. token, 0 - entries) <= 0 then
    redis.call('HDEL', BATCHES, token, 'n' .. token)
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
local function dissolve(token, batch)
  local value, text = value_and_ids(batch)
  local ids, pairs_of = {}, {}
  for id in string.gmatch(text, '%S+') do
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
