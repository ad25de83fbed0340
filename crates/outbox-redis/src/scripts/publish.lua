-- Adds messages that were not added within the deduplication window.
--
-- KEYS  ..., what the keys of known ids begin with
-- ARGV  ..., high-water mark, window in ms, then the id of each message, then the body of each
local high_water, window = tonumber(ARGV[3]), tonumber(ARGV[4])
local count = (#ARGV - 4) / 2

-- An id is in the set of the window that it came in: of the present one or the one before it, so
-- that it is remembered for one window at least and two at most.
local time = call('TIME')
local period = math.floor((tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)) / window)
local present = KEYS[3] .. string.format('%.0f', period)
local former = KEYS[3] .. string.format('%.0f', period - 1)

local room = math.max(high_water - length, 0)
local ids, again = {unpack(ARGV, 5, 4 + count)}, nil
for _, key in ipairs({present, former}) do
    if call('EXISTS', key) == 1 then
        for i, known in ipairs(call('SMISMEMBER', key, unpack(ids))) do
            if known == 1 then
                again = again or {}
                again[i] = true
            end
        end
    end
end

local fit, last = 0, marked
if not again and room >= count and call('SADD', present, unpack(ids)) == count then
    for i = 1, count do
        last = call('XADD', stream, '*', 'm', ARGV[4 + count + i])
    end
    fit = count
else
    -- Some are known, come twice in the batch, or do not fit. Where only the last is so, all that
    -- is new in it was noted just now.
    local noted = not again and room >= count
    local seen = {}
    for i = 1, count do
        local id = ids[i]
        if not (again and again[i]) and not seen[id] then
            if room <= 0 then break end
            if not noted then call('SADD', present, id) end
            last = call('XADD', stream, '*', 'm', ARGV[4 + count + i])
            room = room - 1
        end
        seen[id] = true
        fit = i
    end
end
if fit > 0 then call('PEXPIRE', present, 2 * window) end
call('HSET', origin, 'epoch', epoch, 'last', last, 'run', run)
return {'ok', fit, last}
