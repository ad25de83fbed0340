-- What the server tells of each group of the stream, by the names that it uses.
local function groups()
  local all = {}
  for at, group in ipairs(redis.call('XINFO', 'GROUPS', STREAM)) do
    all[at] = {}
    for place = 1, #group, 2 do
      all[at][group[place]] = group[place + 1]
    end
  end
  return all
end

-- Compares ids: longer numbers are greater ones, and a double would not tell all 64 bits apart.
local function before(one, other)
  local one_ms, one_seq = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)-(%d+)$')
  if #one_ms ~= #other_ms then return #one_ms < #other_ms end
  if one_ms ~= other_ms then return one_ms < other_ms end
  if #one_seq ~= #other_seq then return #one_seq < #other_seq end
  return one_seq < other_seq
end

-- Removes what every group has read and settled, and nothing else; how many entries went.
local function trim()
  local low = nil
  for _, group in ipairs(groups()) do
    local pending = redis.call('XPENDING', STREAM, group['name'])
    local mark = pending[2]
    if pending[1] == 0 then
      local ms, seq = string.match(group['last-delivered-id'], '^(%d+)-(%d+)$')
      mark = ms .. '-' .. digits(tonumber(seq) + 1)
    end
    if not low or before(mark, low) then
      low = mark
    end
  end
  return low and redis.call('XTRIM', STREAM, 'MINID', low) or 0
end

-- How many entries fit below the high-water mark. Where they stay for other groups and not all that
-- are wanted fit, what every group has settled is removed first.
local function room_for(wanted, high_water, stays)
  local function room()
    return high_water - redis.call('XLEN', STREAM) - redis.call('ZCARD', DELAYED)
  end
  if stays and room() < wanted and redis.call('EXISTS', STREAM) == 1 then
    trim()
  end
  return room()
end
