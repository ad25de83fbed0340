-- Adds messages whose entry ids are their places in the outbox. What was published is known by one
-- bit a place, so that a message that comes late is told from one that comes again.
--
-- KEYS  ..., what the keys of the bits begin with
-- ARGV  ..., what this part is called, high-water mark, lifetime of the bits in ms, times of creation
--       packed as doubles, the newest of them, 1 where each place follows the one before it, then
--       place and body of each message
local PLACES, SETTINGS = 65536, 9
local high_water, lifetime, created = tonumber(ARGV[5]), ARGV[6], ARGV[7]
local args = ARGV
local count = (#args - SETTINGS) / 2

local function place_of(i)
    return args[SETTINGS - 1 + 2 * i]
end

-- Whoever loses the stream alone begins with bits under another name; the old ones end by themselves.
local life = tonumber(call('HGET', origin, 'life') or '0')
if behind then
    life = life + 1
    if is_before(generated, marked) then marked = generated end
end
if is_before(marked, generated) then
    return {'foreign', generated}
end

local published = KEYS[3] .. (life > 0 and string.format('%.0f:', life) or '')
local function chunk_of(place)
    local chunk = math.floor(place / PLACES)
    return published .. string.format('%.0f', chunk), place - chunk * PLACES, chunk
end

local function note(from, to)
    while from <= to do
        local key, bit, chunk = chunk_of(from)
        local last = math.min(to - chunk * PLACES, PLACES - 1)
        from = (chunk * PLACES + last) + 1
        while bit <= last and bit % 8 ~= 0 do
            call('SETBIT', key, bit, 1)
            bit = bit + 1
        end
        local bytes = math.floor((last - bit + 1) / 8)
        if bytes > 0 then
            call('SETRANGE', key, bit / 8, string.rep('\255', bytes))
            bit = bit + bytes * 8
        end
        while bit <= last do
            call('SETBIT', key, bit, 1)
            bit = bit + 1
        end
        call('PEXPIRE', key, lifetime)
    end
end

-- Has each command that writes behind the first entry tried where it changes nothing: what an access
-- rule refuses is refused while nothing is there yet, and not between an entry and its mark. The first
-- of them is one that a server whose memory is full refuses, too.
local function try_writes(place)
    local key, bit = chunk_of(place)
    call('SETRANGE', key, 0, '')
    call('PEXPIRE', key, lifetime)
    call('HSET', origin, 'life', call('HGET', origin, 'life') or '0')
    call('SETBIT', key, bit, call('GETBIT', key, bit))
    call('PEXPIRE', key, lifetime)
end

-- First look, then write: a script is not rolled back.
local top, newest = major(marked), tonumber(mark[4] or '0')
local again = {}
-- Most often they follow each other, behind all that there are.
local first = tonumber(place_of(1))
local in_a_row = first and ARGV[9] == '1' and first > top
for i = 1, in_a_row and 0 or count do
    local place = tonumber(place_of(i))
    if place <= top then
        local key, bit = chunk_of(place)
        if call('GETBIT', key, bit) == 1 then
            if struct.unpack('<d', created, i * 8 - 7) > newest then
                return {'reused', place_of(i)}
            end
            again[i] = true
        end
    end
end

local room, fit, last = high_water - length, 0, marked
if count > 0 and room > 0 then
    try_writes(first)
end
local from, to
local plain = in_a_row and room >= count
if plain then
    for at = SETTINGS + 1, #args, 2 do
        last = call('XADD', stream, args[at] .. '-0', 'm', args[at + 1])
    end
    from, to = first, first + count - 1
    fit, added = count, added + count
end
for i = 1, plain and 0 or count do
    local text = place_of(i)
    local place = tonumber(text)
    if not again[i] and place <= top and to then
        -- It may be in the batch twice.
        note(from, to)
        from, to = nil, nil
        local key, bit = chunk_of(place)
        again[i] = call('GETBIT', key, bit) == 1
    end
    if not again[i] then
        if room <= 0 then break end
        local id = text .. '-0'
        -- One that comes late goes behind what overtook it.
        if place <= top then id = string.format('%.0f-*', top) end
        last = call('XADD', stream, id, 'm', args[SETTINGS + 2 * i])
        added = added + 1
        top = math.max(top, place)
        room = room - 1
        if to and place == to + 1 then
            to = place
        else
            if to then note(from, to) end
            from, to = place, place
        end
    end
    fit = i
end
if to then note(from, to) end
newest = string.format('%.0f', math.max(newest, tonumber(ARGV[8])))
call('HSET', origin, 'epoch', epoch, 'last', last, 'run', run, 'newest', newest, 'added', added,
    'part', fit == count and ARGV[4] or '')
if behind then call('HSET', origin, 'life', life) end
return {'ok', fit, last}
