-- Counts what the queue holds, as the group sees it.
-- ARGV: group, now, 1 where entries stay for other groups
-- Answers how many are ready, in flight, delayed, in quarantine, how many consumers hold some, and
-- when the entry at the head was enqueued, or nothing.
local length = redis.call('XLEN', STREAM)
local pending = redis.call('XPENDING', STREAM, GROUP)
local unread = length - pending[1]
if ARGV[3] == '1' then
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', STREAM)) do
    local of = {}
    for place = 1, #group, 2 do
      of[group[place]] = group[place + 1]
    end
    if of['name'] == GROUP then
      unread = #redis.call('XRANGE', STREAM, '(' .. of['last-delivered-id'], '+', 'COUNT', 10000)
    end
  end
end
local due = redis.call('ZCOUNT', DELAYED, '-inf', NOW)
local later = redis.call('ZCARD', DELAYED) - due

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
for _, entry in ipairs(redis.call('XRANGE', STREAM, '-', '+', 'COUNT', 1)) do
  meet(entry[1], entry[2])
end
for _, id in ipairs(redis.call('ZRANGE', DELAYED, 0, 99)) do
  local fields = redis.call('HGET', RETURNED, id)
  if fields then
    meet(id, cmsgpack.unpack(fields))
  end
end
local consumers = type(pending[4]) == 'table' and #pending[4] or 0
return {unread + due, pending[1], later, redis.call('XLEN', QUARANTINE), consumers, oldest or ''}
