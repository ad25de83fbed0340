-- Counts what the queue holds, as the group sees it.
-- ARGV: group, now, 1 where entries stay for other groups
-- Answers how many are ready, in flight, delayed, in quarantine, how many consumers hold some, and
-- when the oldest of them was enqueued, or nothing.
local pending = redis.call('XPENDING', STREAM, GROUP)
local unread = redis.call('XLEN', STREAM) - pending[1]
local read = '0-0'
for _, group in ipairs(groups()) do
  if group['name'] == GROUP then
    read = group['last-delivered-id']
    -- What others have still to settle is there, too. Only read entries were trimmed, so that the
    -- server's own count holds.
    if ARGV[3] == '1' then
      unread = group['lag'] or unread
    end
  end
end
local due = redis.call('ZCOUNT', DELAYED, '-inf', NOW)
local later = redis.call('ZCARD', DELAYED) - due

-- The first in flight, the first that was not read, and the first hundred that are delayed: an entry
-- that came back counts from when it was enqueued first, once it is one of them.
local oldest = nil
local function meet(id, fields)
  local enqueued = string.match(id, '^%d+') .. '000'
  for place = 1, #fields, 2 do
    if fields[place] == 't' then
      enqueued = fields[place + 1]
    end
  end
  if not oldest or tonumber(enqueued) < tonumber(oldest) then
    oldest = enqueued
  end
end
local function meet_first(from, to)
  for _, entry in ipairs(redis.call('XRANGE', STREAM, from, to, 'COUNT', 1)) do
    meet(entry[1], entry[2])
  end
end
if pending[1] > 0 then
  meet_first(pending[2], pending[2])
end
meet_first('(' .. read, '+')
for _, id in ipairs(redis.call('ZRANGE', DELAYED, 0, 99)) do
  local fields = redis.call('HGET', RETURNED, id)
  if fields then
    meet(id, cmsgpack.unpack(fields))
  end
end
local consumers = type(pending[4]) == 'table' and #pending[4] or 0
return {unread + due, pending[1], later, redis.call('XLEN', QUARANTINE), consumers, oldest or ''}
