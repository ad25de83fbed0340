-- What every script of the heap begins with. A subject is the id of a message, 16 bytes, and its
-- origin. ENTRIES has what is counted of each; FIRST and LAST have all of them by their first and
-- last failure; COUNT has those that nobody has drained, by their failures; CLAIMED has the others,
-- by when their claim is over.
local ENTRIES, COUNT, FIRST, LAST, CLAIMED, TOKEN = unpack(KEYS)

-- Places in what is counted of a subject.
local FAILURES, FIRST_AT, LAST_AT, KIND, ERROR, CLAIM = 1, 2, 3, 4, 5, 6

-- How many are looked at in one step, and how often that is done.
local PAGE, PAGES = 500, 40

-- Fails before anything was written where a key is of another type.
redis.call('HLEN', ENTRIES)
for _, key in ipairs({COUNT, FIRST, LAST, CLAIMED}) do
  redis.call('ZCARD', key)
end

local function read(subject)
  local packed = redis.call('HGET', ENTRIES, subject)
  return packed and cmsgpack.unpack(packed)
end

local function write(subject, entry)
  redis.call('HSET', ENTRIES, subject, cmsgpack.pack(entry))
end

local function forget(subject)
  for _, key in ipairs({COUNT, FIRST, LAST, CLAIMED}) do
    redis.call('ZREM', key, subject)
  end
  return redis.call('HDEL', ENTRIES, subject)
end

-- Lets the next drain have what is no longer claimed.
local function unclaim(subject, entry)
  redis.call('ZADD', COUNT, entry[FAILURES], subject)
  redis.call('ZREM', CLAIMED, subject)
end

-- Meets subjects of an index below a score, the least first, until there are enough.
local function meet_below(index, score, enough, meet)
  for page = 0, PAGES - 1 do
    local subjects = redis.call('ZRANGEBYSCORE', index, '-inf', '(' .. score, 'LIMIT', page * PAGE, PAGE)
    for _, subject in ipairs(subjects) do
      if enough() then
        return
      end
      meet(subject)
    end
    if #subjects < PAGE then
      return
    end
  end
end
