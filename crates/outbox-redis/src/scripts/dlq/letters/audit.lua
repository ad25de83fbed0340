-- Answers records of the audit.
-- ARGV: group, now, behind which number, the most
local last = tonumber(redis.call('HGET', AUDIT, 'last') or 0)
local first = tonumber(redis.call('HGET', AUDIT, 'first') or 1)
local records, number = {}, math.max(tonumber(ARGV[3]) + 1, first)
while number <= last and #records < tonumber(ARGV[4]) do
  local step = redis.call('HGET', AUDIT, digits(number))
  if step then
    records[#records + 1] = {number, unpack(cmsgpack.unpack(step))}
  end
  number = number + 1
end
return records
