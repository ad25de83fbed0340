-- What both scripts of a steady rate begin with: the moment, and when every permit taken so far will
-- have been earned back, in microseconds.
local now, ahead = moment(ARGV[1])

local function debt_of(key)
  local held = call('GET', key)
  local debt = tonumber(held or now)
  if not debt then
    error({err = 'WRONGTYPE it holds no moment (key ' .. key .. ')'})
  end
  return debt
end

-- A debt needs to be known no longer than it lasts.
local function owe(key, debt)
  call('SET', key, digits(debt), 'PXAT', digits(math.ceil(debt / 1000) + 1 + ahead))
end
