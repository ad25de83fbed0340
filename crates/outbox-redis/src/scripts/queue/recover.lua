-- Takes over entries whose lease has ended, and those that were read and never held.
-- ARGV: group, now, owner, consumer, lease, grace in milliseconds, the most entries, where to go on
-- in the list of pending entries, 1 where earlier calls of this walk found some
-- Answers the token, the entries, the ids of entries that are gone, where to go on or nothing, when
-- the first lease of anybody else ends, the present moment, and how often each entry was taken over
-- since it came into the stream, this time included.
local PAGE, PAGES = 200, 10
local owner, consumer, lease, grace = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local most, cursor, found = tonumber(ARGV[7]), ARGV[8], ARGV[9] == '1'

local function answer(token, entries, gone, times)
  return {token, entries, gone, cursor, next_expiry(owner), digits(NOW), times}
end

local function ended_holds()
  return redis.call('ZCOUNT', HOLDS, '-inf', NOW)
end

local pending = redis.call('XPENDING', STREAM, GROUP)[1]
if cursor == '-' and ended_holds() == 0 and pending <= held_count() then
  cursor = ''
  return answer('0', {}, {}, {})
end

-- What is in batches whose lease goes on, by the consumer that read it.
local going_on = {}
local function consumer_of(value)
  local hex = string.gsub(string.sub(value, 1, 16), '.', function(byte)
    return string.format('%02x', string.byte(byte))
  end)
  local name = string.gsub(hex, '^(' .. string.rep('%x', 8) .. ')(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)', '%1-%2-%3-%4-')
  return name
end
for _, token in ipairs(redis.call('HKEYS', BATCHES)) do
  if string.find(token, '^%d') then
    local value = redis.call('HGET', BATCHES, token)
    if tonumber(string.sub(hold_in(value), 17)) <= NOW then
      dissolve(token, value)
    else
      local name = consumer_of(value)
      going_on[name] = (going_on[name] or ' ') .. ids_of(token) .. ' '
    end
  end
end

local function goes_on(id, name)
  return going_on[name] and string.find(going_on[name], ' ' .. id .. ' ', 1, true)
end

-- Walks through the pending entries, however many of them are busy.
local stuck, from, handed_out = {}, {}, {}
local function look_at(id, name, idle, value, deliveries)
  if value then
    local hold = hold_in(value)
    if tonumber(string.sub(hold, 17)) > NOW then
      return
    end
    from[hold] = (from[hold] or 0) + 1
  elseif idle < grace or goes_on(id, name) then
    return
  end
  stuck[#stuck + 1] = id
  handed_out[id] = deliveries
end
local pages = 0
while #stuck < most and pages < PAGES and cursor ~= '' do
  local page = redis.call('XPENDING', STREAM, GROUP, cursor, '+', PAGE)
  local ids = {}
  for place, entry in ipairs(page) do
    ids[place] = entry[1]
  end
  local values = held_of(ids)
  cursor = #page < PAGE and '' or '(' .. ids[#page]
  for place, entry in ipairs(page) do
    if #stuck == most then
      cursor = '(' .. ids[place - 1]
      break
    end
    look_at(entry[1], entry[2], entry[3], values[place], entry[4])
  end
  pages = pages + 1
end

-- Forgets what is noted as held until a past moment, though no such entry is pending.
local function sweep()
  local at = '0'
  repeat
    local part = redis.call('HSCAN', HELD, at, 'COUNT', 1000)
    at = part[1]
    for place = 1, #part[2], 2 do
      if tonumber(string.sub(hold_in(part[2][place + 1]), 17)) <= NOW then
        redis.call('HDEL', HELD, part[2][place])
      end
    end
  until at == '0'
  for _, hold in ipairs(redis.call('ZRANGEBYSCORE', HOLDS, '-inf', NOW)) do
    redis.call('ZREM', HOLDS, hold)
    redis.call('HDEL', COUNTS, hold)
  end
end

if #stuck == 0 then
  if cursor == '' and not found and ended_holds() > 0 then
    sweep()
  end
  return answer('0', {}, {}, {})
end

local entries = redis.call('XCLAIM', STREAM, GROUP, consumer, 0, unpack(stuck))
local there, mine, gone, times = {}, {}, {}, {}
for place, entry in ipairs(entries) do
  there[entry[1]] = true
  mine[place] = entry[1]
  times[place] = handed_out[entry[1]]
end
for _, id in ipairs(stuck) do
  if not there[id] then
    gone[#gone + 1] = id
  end
end
local token = '0'
if #mine > 0 then
  token = hold(owner, lease, mine)
end
each_chunk(gone, function(...)
  redis.call('HDEL', HELD, ...)
  redis.call('XACK', STREAM, GROUP, ...)
end)
forget_back(gone, {})
take_from_holds(from)
return answer(token, entries, gone, times)
