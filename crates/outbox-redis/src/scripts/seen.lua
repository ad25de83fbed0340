-- Ids that were added lately are remembered in sets, one for each half of a window: three of them are
-- asked, so that an id is known for one window at least and for one and a half at most. The fourth is
-- forgotten.

-- The number of the half of a window that a moment is in.
local function half_of(moment, half)
  return math.floor(moment / half)
end

local function seen_in(seen, number)
  return seen .. ':' .. string.format('%.0f', number)
end

-- Meets those of some ids that are remembered: the place of each, and the number of the set that has
-- it. `current` is the number of the present half.
local function meet_seen(seen, current, ids, meet)
  for number = current, current - 2, -1 do
    local key = seen_in(seen, number)
    if redis.call('EXISTS', key) == 1 then
      for place, known in ipairs(redis.call('SMISMEMBER', key, unpack(ids))) do
        if known == 1 then
          meet(place, number)
        end
      end
    end
  end
end

-- Remembers ids; keys expire `later` milliseconds later than they have to.
local function remember(seen, current, half, ids, later)
  local key = seen_in(seen, current)
  redis.call('SADD', key, unpack(ids))
  redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(half * 4 / 1000) + later))
  -- Big sets are to go without stopping the server, which their expiry might.
  redis.call('UNLINK', seen_in(seen, current - 3))
end

-- Forgets all ids: what was added may be lost.
local function forget_seen(seen, current)
  for back = 0, 3 do
    redis.call('UNLINK', seen_in(seen, current - back))
  end
end
