-- What the scripts of the deduplication cache begin with in the layout of sets: done ids are members
-- of sets, and claims are fields of hashes, one of each for every rotation in which something ends.
-- A claim is its token, a bar, and when it ends, in milliseconds. An id is in one set and in one
-- hash at most.
-- KEYS: the sets of the live rotations, from the present one on, their hashes, and the set and the
-- hash of the rotation before. ARGV[1] is the moment; ARGV[2] and ARGV[3] are where the present
-- rotation begins and ends, in milliseconds; ARGV[4] is the number of live ones.
local micros, ahead = moment(ARGV[1])
local now = math.floor(micros / 1000)
local from, to, live = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

-- Up to so many fields, a hash that is a list is as quick as any other.
local SMALL = 16

-- Whether the keys were named for another rotation than this moment is in.
local function stale()
  return now < from or now >= to
end

-- Meets those of some ids that are done: the place of each, and which set has it.
local function meet_done(ids, meet)
  for set = 1, live do
    if call('EXISTS', KEYS[set]) == 1 then
      for at, known in ipairs(call('SMISMEMBER', KEYS[set], unpack(ids))) do
        if known == 1 then
          meet(at, set)
        end
      end
    end
  end
end

-- What is noted of the claim of each id, over or not, and in which of the hashes: nothing of those
-- without.
local function claims_of(ids)
  local held, hashes = {}, {}
  for hash = 1, live do
    if call('EXISTS', KEYS[live + hash]) == 1 then
      for at, claim in ipairs(call('HMGET', KEYS[live + hash], unpack(ids))) do
        if claim then
          held[at], hashes[at] = claim, hash
        end
      end
    end
  end
  return held, hashes
end

-- For how many milliseconds yet a claim holds; 0 for one that is over.
local function left_of(claim)
  return math.max(tonumber(string.match(claim, '%d+$')) - now, 0)
end

-- The claimed ids from ARGV[first] on, and the token of each: they come in runs, each behind its token
-- and their number.
local function claimed(first)
  local ids, tokens = {}, {}
  while first <= #ARGV do
    local token, last = ARGV[first], first + 1 + tonumber(ARGV[first + 1])
    for n = first + 2, last do
      ids[#ids + 1] = ARGV[n]
      tokens[#ids] = token
    end
    first = last + 1
  end
  return ids, tokens
end

-- Of claimed ids, those whose claim is live by the hash that it is in, and for each id whether it is one
-- of them: each once.
local function proven(ids, tokens)
  local held, hashes = claims_of(ids)
  local answers, met, by_hash = {}, {}, {}
  local known, shown, good
  for at, id in ipairs(ids) do
    local claim, token = held[at], tokens[at]
    -- Claims of one batch are the same text.
    if claim ~= known or token ~= shown then
      known, shown = claim, token
      good = claim and string.match(claim, '^%d+') == token and left_of(claim) > 0
    end
    if good and not met[id] then
      met[id], answers[at] = true, 1
      local some = by_hash[hashes[at]]
      if some then
        some[#some + 1] = id
      else
        by_hash[hashes[at]] = {id}
      end
    else
      answers[at] = 0
    end
  end
  return by_hash, answers
end

-- The moment, and an answer for all that have the same, or one for each.
local function told(answers)
  for at = 2, #answers do
    if answers[at] ~= answers[1] then
      return {micros, unpack(answers)}
    end
  end
  return {micros, answers[1]}
end

-- Notes claims that end at a moment, each behind its id, in the hash of the rotation in which they do;
-- how many are new in it.
local function note_claims(hash, ends, fields)
  local key = KEYS[live + hash]
  -- A hash that begins small is a list, in which every field is searched for from its start; one
  -- with a long value is none, and stays so when that value goes.
  if #fields > 2 * SMALL and call('EXISTS', key) == 0 then
    call('HSET', key, fields[1], fields[2] .. string.rep(' ', 65))
  end
  local news = call('HSET', key, unpack(fields))
  call('PEXPIREAT', key, digits(ends + ahead))
  return news
end

local function forget_claims(by_hash)
  for hash, ids in pairs(by_hash) do
    call('HDEL', KEYS[live + hash], unpack(ids))
  end
end

-- Puts ids into the set of the rotation that ends at a moment. A large set is to go without stopping
-- the server, which its expiry might: whoever comes next lets it go, and its end is a rotation later.
local function remember(set, ends, ids)
  call('SADD', KEYS[set], unpack(ids))
  call('PEXPIREAT', KEYS[set], digits(ends + to - from + ahead))
  call('UNLINK', KEYS[2 * live + 1], KEYS[2 * live + 2])
end
