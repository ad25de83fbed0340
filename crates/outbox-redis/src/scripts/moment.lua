-- The moment of a call in microseconds, and how much later than said its keys expire, in
-- milliseconds. The moment is the server's, read once; where the caller gives one (tests do), that
-- one counts, and since the server's clock knows nothing of it, keys then live a century longer.
local function moment(given)
  if given ~= '' then
    return tonumber(given), 3155760000000
  end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2], 0
end

-- A number as a text, all digits of it.
local function digits(number)
  return string.format('%.0f', number)
end

-- Runs a command about a key; an error names both.
local function call(name, key, ...)
  local reply = redis.pcall(name, key, ...)
  if type(reply) == 'table' and reply.err then
    error({err = reply.err .. ' (' .. name .. ' ' .. key .. ')'})
  end
  return reply
end
