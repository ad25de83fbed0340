-- How every script of a publisher begins: a stale relay is refused, and lost entries are told,
-- before anything is written.
--
-- KEYS  stream, the origin's mark
-- ARGV  epoch, the last entry that the caller knows of (empty where it knows nothing; 0-0 where it
--       accepts what is there), the part of a batch that must be there whole before this one (empty
--       where none must)
local call = redis.call
local stream, origin = KEYS[1], KEYS[2]
local epoch, known, before = ARGV[1], ARGV[2], ARGV[3]

local function major(id)
    return tonumber(id:match('^%d+'))
end

-- As texts, because the numbers of an entry need more bits than numbers have here.
local function is_before(a, b)
    local am, as = a:match('^(%d+)%-(%d+)$')
    local bm, bs = b:match('^(%d+)%-(%d+)$')
    if #am ~= #bm then return #am < #bm end
    if am ~= bm then return am < bm end
    if #as ~= #bs then return #as < #bs end
    return as < bs
end

local mark = call('HMGET', origin, 'epoch', 'last', 'run', 'newest', 'added', 'part')
if mark[1] and tonumber(mark[1]) > tonumber(epoch) then
    return {'stale', mark[1]}
end
if before ~= '' and mark[6] ~= before then
    return {'apart'}
end

local length, generated, added = call('XLEN', stream), '0-0', 0
if call('EXISTS', stream) == 1 then
    local about = call('XINFO', 'STREAM', stream)
    for at = 1, #about, 2 do
        if about[at] == 'last-generated-id' then generated = about[at + 1] end
        if about[at] == 'entries-added' then added = about[at + 1] end
    end
end

-- A stream that is behind its own mark was deleted while the rest was not: what is remembered as
-- published may be gone. One that was filled anew since has fewer entries than were ever added.
local marked = mark[2] or '0-0'
local fewer = added < tonumber(mark[5] or '0')
local behind = fewer or is_before(generated, marked)
if known ~= '0-0' then
    if behind or (known ~= '' and is_before(marked, known)) then
        return {'lost', fewer and '0-0' or generated}
    end
    if known == '' and not mark[1] then
        return {'unmarked', '0-0'}
    end
end

local run = mark[3]
if known == '' or known == '0-0' or not run then
    local now = call('INFO', 'server'):match('run_id:(%w+)')
    if known == '' and run and run ~= now then
        return {'restarted', generated}
    end
    run = now
end
