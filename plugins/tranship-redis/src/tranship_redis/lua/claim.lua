-- Takes messages from lists and holds them, in one step.
-- Everything is recorded before it leaves its list, so that nothing is lost whatever the server refuses.
-- What is rare is a function made where it is needed: making one costs as much as a small command.
-- KEYS: unacked, unacked_index, leases, deliveries, what the keys of dead letters begin with, their index, delayed-queues,
--       per schedule: delayed, delayed-messages; then the lists, in the order to look at them
-- ARGV: limit, lease in microseconds, claim id, how many elements to look at in one go, how many queues,
--       result prefix, TTL of STARTED in ms, its document before and after the task id, "json" or "msgpack",
--       per list three bytes, its queue from 0 in the first two and the digit of its step ("-": no lists; "": all of
--       them, steps 0, 3, 6, 9 outside, queues inside), how many schedules, those of the first queues,
--       per queue: name, its list of step 0, Celery peers: "1", "0", or the key that exists where there are some
-- Returns: ms until the next delayed message is due (-1: none), how many became due,
--          elements, their delivery tags, the numbers of their lists, earlier deliveries (empty: none of any),
--          quarantined {list number, dead letter, element, ...}, trouble {key, error, ...},
--          numbers of lists that may hold more, at least one if there are any: with three bytes per list all of them. The
--          others are empty now, and the server has been made to tell when that ends,
--          and unless the bytes per list are "": per schedule, ms as above; numbers of schedules from which something
--          became due
local unacked, index, leases, deliveries, apart, names = unpack(KEYS, 1, 6)
local limit, claim, queues = math.min(tonumber(ARGV[1]), 500), ARGV[3], tonumber(ARGV[5])
-- Bytes of elements, and those of them that had to be decoded, after which a claim takes no more: all others wait for it.
local PIECE, ENOUGH, DECODED, PROMOTED = tonumber(ARGV[4]), 4194304, 262144, 500
local seats, schedules = ARGV[11], tonumber(ARGV[12])
local lists = 7 + 2 * schedules
local last = #KEYS - lists
local call, try, find, sub = redis.call, redis.pcall, string.find, string.sub
local clock = call('TIME')
local now = clock[1] .. string.format('.%06d', clock[2])
local trouble = {}

-- The server itself does not say what it refused.
local function named(reply, command, key)
  return {err = reply.err .. ' (' .. command .. ' ' .. key .. ')'}
end

-- Some servers (Redis before 7.2) note every key of this call, to tell us of changes, with every single read in it. So
-- with many keys one read stands for many of them. Returns the places of enough keys, among them those that exist, and
-- the first place that has not been looked at.
local MANY, TOGETHER = 64, 16
local existing = #KEYS > MANY and function(first, final, enough)
  local found, unseen = {}, final + 1
  local function look(low, high)
    if enough <= 0 then unseen = math.min(unseen, low) return end
    local count = call('EXISTS', unpack(KEYS, low, high))
    if count > 0 and high - low < TOGETHER then
      for place = low, high do found[#found + 1] = place end
      enough = enough - count
    elseif count > 0 then
      local middle = math.floor((low + high) / 2)
      look(low, middle)
      look(middle + 1, high)
    end
  end
  for low = first, final, 1000 do look(low, math.min(low + 999, final)) end
  return found, unseen
end

-- 1. What is due joins its list at the end, as if it were submitted now.

local promoted, moved, due, waits, filled = 0, 0, nil, nil, nil
local places = existing and existing(8, lists, math.huge)
if seats ~= '' then
  waits, filled = {}, {}
  for number = 1, schedules do waits[number] = -1 end
end
for turn = 1, places and #places or schedules do
  local number = places and math.floor(places[turn] / 2) - 3 or turn
  local delayed, messages = KEYS[6 + 2 * number], KEYS[7 + 2 * number]
  -- Every queue has two of the places.
  local head = places and places[turn] % 2 == 1 and {} or try('ZRANGE', delayed, 0, 0, 'WITHSCORES')
  -- One queue's key that cannot be used must not stop the other queues, nor what is ready in this one.
  if head.err then trouble[#trouble + 1], trouble[#trouble + 2] = delayed, named(head, 'ZRANGE', delayed).err end
  local first = tonumber(head[2])
  if first and first <= tonumber(now) then
-- include: list_of
    -- Returns whether there can be a next one.
    local function promote(id)
      local found = try('HGET', messages, id)
      if type(found) == 'table' then
        trouble[#trouble + 1], trouble[#trouble + 2] = messages, named(found, 'HGET', messages).err
        return false
      end
      -- First: a server that is out of memory refuses no step behind one that frees some.
      call('ZREM', delayed, id)
      if found then
        local list = list_of(ARGV[11 + 3 * number], found)
        local pushed = try('LPUSH', list, sub(found, 2))
        if type(pushed) == 'table' then
          trouble[#trouble + 1], trouble[#trouble + 2] = list, named(pushed, 'LPUSH', list).err
          call('ZADD', delayed, string.format('%.6f', now + 5), id)
          return true
        end
        call('HDEL', messages, id)
        moved = moved + #found
      end
      -- It only says where a delayed task is: one that is queued by now is none.
      try('HDEL', KEYS[7], id)
      promoted = promoted + 1
      return true
    end
    local usable, most, before = true, math.max(0, PROMOTED - promoted), promoted
    for _, id in ipairs(most > 0 and call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, most) or {}) do
      usable = moved < ENOUGH and promote(id)
      if not usable then break end
    end
    usable = usable or moved >= ENOUGH
    if filled and promoted > before then filled[#filled + 1] = number end
    first = now + 5
    if usable then first = tonumber(call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]) end
  end
  if first then
    if waits then waits[number] = math.max(0, math.ceil((first - now) * 1000)) end
    if not (due and due < first) then due = first end
  end
end
local wait = due and math.max(0, math.ceil((due - now) * 1000)) or -1

-- 2. Look at the lists and choose.

local raws, tags, from, counts, endings, ids, peers, known = {}, {}, {}, {}, {}, {}, {}, {}
local bad, taken, total, size, decoded, finished, counted = {}, {}, 0, 0, 0, false, false
local counting = try('HLEN', deliveries)
if type(counting) == 'table' then return named(counting, 'HLEN', deliveries) end

-- Made when the first element has to be decoded.
local read
local function reader()
-- include: ending_of
-- include: message_of

  -- Returns the id of the task; what stands behind the element in the value that Celery restores from, nil when it would
  -- kill a Celery worker that finds it in unacked; its tag, headers and delivery info.
  return function(raw)
    local message, text = message_of(raw)
    local headers, properties = headers_of(message), message and message.properties
    local id = type(headers.id) == 'string' and headers.id or ''
    decoded = decoded + #text
    if type(properties) ~= 'table' then return id end
    local tag, info = properties.delivery_tag, properties.delivery_info
    if type(tag) == 'number' then
      -- An integer as Celery writes it; the decoder keeps no more than 53 bits of one.
      local digits = string.match(text, '^.*"delivery_tag"%s*:%s*(%-?%d+)%s*[,}]')
      tag = tonumber(digits) == tag and digits
    end
    if type(tag) ~= 'string' or type(info) ~= 'table' or type(info.routing_key) ~= 'string'
        or type(info.exchange) ~= 'string' or find(raw, '\0', 1, true) then return id end
    local place = info.exchange .. '\0' .. info.routing_key
    known[place] = known[place]
      or ', ' .. cjson.encode(info.exchange) .. ', ' .. cjson.encode(info.routing_key) .. ']'
    return id, known[place], tag, headers, info
  end
end

-- Where no Celery worker serves the queue, the elements we write are known by how they end, at a tenth of the cost;
-- the client reads strictly whatever comes.
local BEFORE_KEY = ',"delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"'
local AFTER_KEY = '^[^"\\]*"},"priority":%d,"body_encoding":"base64","delivery_tag":"'
local NOTHING, AFTER_TAG, FIXED = {}, '","timestamp":', 57

local rest, unseen = {}, #KEYS + 1
if places then places, unseen = existing(lists + 1, #KEYS, limit) end
for turn = 1, places and #places or last do
  local list = places and places[turn] - lists or turn
  local key, here, number = KEYS[lists + list], 0, (list - 1) % queues + 1
  if seats ~= '' then
    local high, low = string.byte(seats, 3 * list - 2, 3 * list - 1)
    number = 256 * high + low + 1
  end
  while not finished do
    local want = math.min(limit - total, PIECE)
    local piece = try('LRANGE', key, -here - want, -here - 1)
    if piece.err then
      trouble[#trouble + 1], trouble[#trouble + 2] = key, named(piece, 'LRANGE', key).err
      break
    end
    if peers[number] == nil and piece[1] then
      local said = ARGV[12 + 3 * number]
      peers[number] = said == '1' or said ~= '0' and call('EXISTS', said) == 1
    end
    for i = #piece, 1, -1 do
      local raw, id, text, tag, headers, info = piece[i], nil, nil, nil, NOTHING, NOTHING
      if not peers[number] then
        local _, before = find(raw, BEFORE_KEY, -400, true)
        local _, after = find(raw, AFTER_KEY, (before or #raw) + 1)
        local stop = after and find(raw, AFTER_TAG, after, true)
        if stop and sub(raw, 1, 9) == '{"body":"' and sub(raw, -2) == '}}' then
          text, tag = sub(raw, before + 1, after - FIXED), sub(raw, after + 1, stop - 1)
          known[text] = known[text] or ', "", "' .. text .. '"]'
          text = known[text]
        end
      end
      if not text then
        read = read or reader()
        id, text, tag, headers, info = read(raw)
      end
      if text then
        local count = counting > 0 and tonumber(call('HGET', deliveries, tag) or 0) or 0
        if count == 0 and (info.redelivered == true or headers.redelivered == true) then count = 1 end
        -- What was delivered twice before travels alone.
        finished = finished or count > 1
        if count > 1 and total > 0 then break end
        local place = #raws + 1
        raws[place], tags[place], from[place], counts[place], endings[place] = raw, tag, list, count, text
        counted = counted or count > 0
        ids[place] = peers[number] and headers.ignore_result ~= true and type(headers.id) == 'string' and headers.id
      else
        bad[#bad + 1] = {list, raw, 'malformed', 'not a complete message of Celery\'s protocol', id}
      end
      here, total, size = here + 1, total + 1, size + #raw
      finished = finished or total >= limit or size > ENOUGH or decoded > DECODED
      if finished then break end
    end
    if #piece < want then break end
  end
  if here > 0 then taken[#taken + 1] = {key, here, list} end
  if finished then
    rest[#rest + 1] = list
    if seats == '' then break end
  end
end
for place = unseen, #KEYS do rest[#rest + 1] = place - lists end
if total == 0 then return {wait, promoted, raws, tags, from, counts, bad, trouble, rest, waits, filled} end

-- 3. Record what was chosen, then take it off its list.

local tokens, letters, held, values, refused = {}, {}, {}, {}, nil
-- A few short members make a list inside of the server, where each ZADD would look at all of them; a long one makes
-- it a tree.
local long = #tags > 3 and string.rep('-', 65) or nil

-- Like HSET and ZADD; returns the reply. A server that is out of memory refuses no step behind one that may free some.
local function write(command, key, ...)
  local reply = try(command, key, ...)
  if type(reply) == 'table' and find(sub(reply.err, 1, 40), 'OOM ', 1, true) then
    call('ZREM', leases, '')
    reply = try(command, key, ...)
  end
  if type(reply) == 'table' then refused = named(reply, command, key) end
  return reply
end

local added = {long and now, long}
for place = 1, #tags do
  added[#added + 1] = now
  added[#added + 1] = tags[place]
end
if #tags > 0 then added = write('ZADD', index, 'NX', unpack(added)) end
if refused then return refused end
if long then call('ZREM', index, long) end

-- Two live messages with one tag would overwrite each other in unacked: the later one is kept apart.
if #tags > 0 and added < #tags + (long and 1 or 0) then
  local seen, kept = {}, 0
  for place = 1, #tags do
    local tag = tags[place]
    if seen[tag] or call('HEXISTS', unacked, tag) == 1 then
      bad[#bad + 1] = {from[place], raws[place], 'duplicate-tag', 'another message in flight has its delivery tag'}
    else
      seen[tag], kept = true, kept + 1
      call('ZADD', index, 'XX', now, tag)
      raws[kept], tags[kept], from[kept] = raws[place], tag, from[place]
      counts[kept], endings[kept], ids[kept] = counts[place], endings[place], ids[place]
    end
  end
  for place = #tags, kept + 1, -1 do raws[place], tags[place], from[place], counts[place] = nil, nil, nil, nil end
end

for place = 1, #tags do
  local tag = tags[place]
  tokens[place] = KEYS[lists + from[place]] .. '\0' .. tag .. '\0' .. claim
  -- The lease ends a microsecond later for each, so that a sweep finds them in their order.
  local ends = clock[2] + ARGV[2] + place
  held[2 * place - 1] = string.format('%d.%06d', clock[1] + math.floor(ends / 1000000), ends % 1000000)
  held[2 * place] = tokens[place]
  values[2 * place - 1], values[2 * place] = tag, '[' .. raws[place] .. endings[place]
end
if #tags > 0 then write('ZADD', leases, unpack(held)) end
if #tags > 0 and not refused then write('HSET', unacked, unpack(values)) end

if #bad > 0 then
-- include: set_apart
  local function keep_apart(number)
    local list, raw, reason, detail, id = unpack(bad[number])
    if not id and decoded <= DECODED then
      read = read or reader()
      id = read(raw)
    end
    local queue, step = (list - 1) % queues + 1, 3 * math.floor((list - 1) / queues)
    if seats ~= '' then
      local high, low, digit = string.byte(seats, 3 * list - 2, 3 * list)
      queue, step = 256 * high + low + 1, string.char(digit)
    end
    local function set(again)
      local letter, why = set_apart(apart, names, claim .. number, ARGV[10 + 3 * queue], step, reason, detail, id or '', raw)
      if not why then letters[number] = letter
      elseif again and find(sub(why, 1, 40), 'OOM ', 1, true) then
        call('ZREM', leases, '')
        set(false)
      else refused = {err = why} end
    end
    set(true)
  end
  for number = 1, #bad do
    if not refused then keep_apart(number) end
  end
end

local gone = {}
for _, one in ipairs(taken) do
  local trimmed = refused or try('LTRIM', one[1], 0, -one[2] - 1)
  if trimmed.err then refused = refused or named(trimmed, 'LTRIM', one[1])
  else gone[one[3]] = true end
end

if refused then
  for place, token in ipairs(tokens) do
    if not gone[from[place]] then
      try('HDEL', unacked, tags[place])
      try('ZREM', index, tags[place])
      try('ZREM', leases, token)
    end
  end
  for number, letter in pairs(letters) do
    if not gone[bad[number][1]] then
      try('DEL', apart .. sub(letter, 3))
      try('ZREM', names, letter)
    end
  end
  return refused
end

-- 4. Say STARTED, so that Celery workers that hear a revoke leave the task to us.

if next(peers) then
-- include: is_terminal
  for place = 1, #tags do
    if ids[place] then
      local key, id = ARGV[6] .. ids[place], ARGV[10] == 'json' and cjson.encode(ids[place]) or cmsgpack.pack(ids[place])
      local document = ARGV[8] .. id .. ARGV[9]
      if try('SET', key, document, 'NX', 'PX', ARGV[7]) == false then
        local found = try('GET', key)
        if type(found) == 'string' and not is_terminal(found) then try('SET', key, document, 'PX', ARGV[7]) end
      end
    end
  end
end

local quarantined = {}
for number, letter in ipairs(letters) do
  local list, raw = unpack(bad[number])
  quarantined[3 * number - 2], quarantined[3 * number - 1], quarantined[3 * number] = list, letter, raw
end
-- The others are empty now: reading again what we have changed makes the server tell us when that ends.
if not finished or seats ~= '' then
  local names = {}
  for _, one in ipairs(taken) do
    if one[3] ~= rest[1] then names[#names + 1] = one[1] end
  end
  if names[1] then call('EXISTS', unpack(names)) end
end
return {wait, promoted, raws, tags, from, counted and counts or {}, quarantined, trouble, rest, waits, filled}
