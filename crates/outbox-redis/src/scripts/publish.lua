-- Adds messages that were not added within the deduplication window.
--
-- KEYS  ..., what the keys of known ids begin with
-- ARGV  ..., high-water mark, half of the window in microseconds, then the id of each message, then
--       the frame of each
local high_water, half = tonumber(ARGV[3]), tonumber(ARGV[4])
local count = (#ARGV - 4) / 2

-- Ids are remembered in sets, one for each half of a window, as the queue does that reads the
-- stream: three of them are asked, so that an id is known for one window at least.
local time = call('TIME')
local bucket = math.floor((time[1] * 1000000 + time[2]) / half)
local function seen_in(number)
    return KEYS[3] .. ':' .. string.format('%.0f', number)
end

if behind then
    for back = 0, 3 do
        call('UNLINK', seen_in(bucket - back))
    end
    marked = generated
end

local room = math.max(high_water - length, 0)
local ids, again = {unpack(ARGV, 5, 4 + count)}, nil
for back = 0, 2 do
    local key = seen_in(bucket - back)
    if call('EXISTS', key) == 1 then
        for i, known in ipairs(call('SMISMEMBER', key, unpack(ids))) do
            if known == 1 then
                again = again or {}
                again[i] = true
            end
        end
    end
end
local present = seen_in(bucket)

local fit, last = 0, marked
local function add(i)
    last = call('XADD', stream, '*', 'm', ARGV[4 + count + i])
    added = added + 1
end
-- An id is noted once its message is there: what is refused halfway, as by an access rule, may come
-- twice, and is not lost.
local plain, met = not again and room >= count, {}
for i = 1, count do
    plain = plain and not met[ids[i]]
    met[ids[i]] = true
end
if plain then
    for i = 1, count do
        add(i)
    end
    call('SADD', present, unpack(ids))
    fit = count
else
    -- Some are known, come twice in the batch, or do not fit.
    local seen = {}
    for i = 1, count do
        local id = ids[i]
        if not (again and again[i]) and not seen[id] then
            if room <= 0 then break end
            add(i)
            call('SADD', present, id)
            room = room - 1
        end
        seen[id] = true
        fit = i
    end
end
if fit > 0 then
    call('PEXPIRE', present, string.format('%.0f', math.ceil(half * 4 / 1000)))
    call('UNLINK', seen_in(bucket - 3))
end
call('HSET', origin, 'epoch', epoch, 'last', last, 'run', run, 'added', added)
return {'ok', fit, last}
