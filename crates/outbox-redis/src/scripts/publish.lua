-- Adds messages that were not added within the deduplication window.
--
-- KEYS  ..., what the keys of known ids begin with
-- ARGV  ..., what this part is called, high-water mark, half of the window in microseconds, then the
--       id of each message, then the frame of each
local SETTINGS = 6
local high_water, half = tonumber(ARGV[5]), tonumber(ARGV[6])
local count = (#ARGV - SETTINGS) / 2

local time = call('TIME')
local current = half_of(time[1] * 1000000 + time[2], half)
if behind then
    forget_seen(KEYS[3], current)
    marked = generated
end

local room = math.max(high_water - length, 0)
local ids, again = {unpack(ARGV, SETTINGS + 1, SETTINGS + count)}, nil
meet_seen(KEYS[3], current, ids, function(place)
    again = again or {}
    again[place] = true
end)

local fit, last = 0, marked
local function add(i)
    last = call('XADD', stream, '*', 'm', ARGV[SETTINGS + count + i])
    added = added + 1
end
local plain, met = not again and room >= count, {}
for i = 1, count do
    plain = plain and not met[ids[i]]
    met[ids[i]] = true
end
local new = ids
if plain then
    for i = 1, count do
        add(i)
    end
    fit = count
else
    -- Some are known, come twice in the batch, or do not fit.
    local seen = {}
    new = {}
    for i = 1, count do
        local id = ids[i]
        if not (again and again[i]) and not seen[id] then
            if room <= 0 then break end
            add(i)
            new[#new + 1] = id
            room = room - 1
        end
        seen[id] = true
        fit = i
    end
end
-- Ids are noted once their messages are there: what is refused halfway, as by an access rule, may come
-- twice, and is not lost.
if #new > 0 then
    remember(KEYS[3], current, half, new, 0)
end
call('HSET', origin, 'epoch', epoch, 'last', last, 'run', run, 'added', added,
    'part', fit == count and ARGV[4] or '')
return {'ok', fit, last}
