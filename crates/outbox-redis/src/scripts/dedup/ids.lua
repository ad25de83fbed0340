-- What all scripts of the deduplication cache begin with. An id has a key of its own, which holds the
-- token of its claim, or DONE; in the compact layout done ids are fields of buckets instead, which
-- were named for one period.
-- ARGV[1] is the moment; ARGV[2] and ARGV[3] are where the period begins and ends, in milliseconds,
-- or empty where there are no buckets; ARGV[4] is the number of buckets of each id in KEYS.
-- A small number, of which the server keeps one copy for all keys; no token is 0.
local DONE = '0'
local micros, ahead = moment(ARGV[1])
local now = math.floor(micros / 1000)
local buckets = tonumber(ARGV[4])

-- Whether the buckets were named for another period than this moment is in.
local function stale()
  return buckets > 0 and (now < tonumber(ARGV[2]) or now >= tonumber(ARGV[3]))
end

-- What an id's own key holds, and for how many milliseconds yet; false where it is over.
local function own(key)
  local held = call('GET', key)
  if not held then
    return false, 0
  end
  local left = call('PEXPIRETIME', key) - ahead - now
  if left <= 0 then
    return false, 0
  end
  return held, left
end

-- What the own keys of all ids hold, where each id has so many in KEYS; false where it is over.
local function owned(width)
  local keys = KEYS
  if width > 1 then
    keys = {}
    for place = 1, #KEYS, width do
      keys[#keys + 1] = KEYS[place]
    end
  end
  local held = call('MGET', unpack(keys))
  for at, key in ipairs(keys) do
    -- By the server's own clock, a key that is over is gone. A key of another type is an error, which
    -- the one command for all does not tell from none.
    if ahead > 0 or not held[at] then
      held[at] = (own(key))
    end
  end
  return held
end

-- The token of each claim, and its id in the compact layout. Claims come in runs from ARGV[first] on, each
-- behind its token and their number, and there with the ids behind that.
local function claimed(first)
  local tokens, ids, at = {}, {}, 0
  local named = ARGV[2] ~= ''
  while first <= #ARGV do
    local token, count = ARGV[first], tonumber(ARGV[first + 1])
    for n = 1, count do
      at = at + 1
      tokens[at], ids[at] = token, named and ARGV[first + 1 + n]
    end
    first = first + 2 + (named and count or 0)
  end
  return tokens, ids
end

-- Which of the buckets from KEYS[first] on remembers the id, by its number in KEYS.
local function bucket_of(first, id)
  for place = first, first + buckets - 1 do
    if call('HEXISTS', KEYS[place], id) == 1 then
      return place
    end
  end
end

-- When a key ends that is to live for so many milliseconds from now on.
local function after(millis)
  return digits(now + millis + ahead)
end

-- Puts an id in a bucket that ends at the given millisecond.
local function remember(bucket, id, ends)
  call('HSET', bucket, id, '')
  call('PEXPIREAT', bucket, digits(ends + ahead))
end
