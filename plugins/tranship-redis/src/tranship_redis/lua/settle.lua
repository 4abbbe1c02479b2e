-- Ends deliveries: the result, the verdict and the removal of each in one step; nothing of one that is not ours.
-- KEYS: unacked, unacked_index, leases, deliveries, what the keys of dead letters begin with, their index,
--       delayed-queues, marker
-- ARGV: number of the batch, lease in microseconds, TTL of the marker in seconds, how many items (numbered from 1),
--       per item: claim token, delivery tag, key of its result ("" = none), TTL in ms, document;
--       then what makes an item more than an ACK, any of these:
--         "asked", item, number of an earlier batch whose answers were lost, place in it
--         "only", item: it is looked up and nothing else
--         "counted", item: it was delivered before
--         "quarantined", item: its token is a dead letter
--         "nack", item
--         "reject", item, name of its dead letter, the letter
--         "replace", item, list, element
--         "delay", item, delayed, delayed-messages, task id, queue, due, step and element
--         "retrying", item, key that exists where there are Celery peers ("" = there are), key of the result, TTL
--                     in ms, document
-- Returns: one character per item (1: done, 0: not ours, E: refused, and still ours), and the first error or ""
-- The marker, "<number>:<answers>", remembers the last batch for a client that lost its answers with the connection,
-- and shuts out what arrives late of batches before it.
local unacked, index, leases, deliveries, letters, names, delayed_queues, marker = unpack(KEYS)
local count = tonumber(ARGV[4])
local SIZES = {asked = 4, only = 2, counted = 2, quarantined = 2, nack = 2, reject = 4, replace = 4, delay = 8, retrying = 6}
local answers, mine, tags, extras, refusal = {}, {}, {}, {}, ''

-- Returns the reply, or nothing and an error that says what was refused: the server itself does not.
local function try(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then return nil, reply.err .. ' (' .. command .. ' ' .. key .. ')' end
  return reply
end

-- 1. Whose it is.

local before = redis.pcall('GET', marker)
before = type(before) == 'string' and before or ':'
local last, said = string.match(before, '^(%d*):(.*)$')
if tonumber(last) and tonumber(last) > tonumber(ARGV[1]) then
  return redis.error_reply('ERR a later batch of settlements has been carried out')
end

local at = 5 * count + 5
while at <= #ARGV do
  local kind, item = ARGV[at], tonumber(ARGV[at + 1])
  if kind == 'asked' then
    local place = tonumber(ARGV[at + 3])
    local answer = last == ARGV[at + 2] and string.sub(said, place, place) or 'E'
    if answer ~= 'E' then answers[item] = answer end
  else
    extras[item] = extras[item] or {}
    extras[item][kind] = at + 1
  end
  at = at + SIZES[kind]
end

local function keep(item)
  local clock = redis.call('TIME')
  local now = clock[1] + clock[2] / 1000000
  redis.pcall('ZADD', leases, string.format('%.6f', now + ARGV[2] / 1000000), ARGV[5 * item])
  redis.pcall('ZADD', index, string.format('%.6f', now), ARGV[5 * item + 1])
end

-- Celery may have taken away what we hold: a sweep with a shorter timeout, a late acknowledgement.
local function drop_taken()
  local kept = {}
  for _, item in ipairs(mine) do
    if redis.call('HEXISTS', unacked, ARGV[5 * item + 1]) == 1 then kept[#kept + 1] = item
    else answers[item] = '0' end
  end
  mine = kept
end

-- First: a server that is out of memory refuses no step behind one that may free some.
local _, refused = try('ZREM', leases, '')
if refused then return redis.error_reply(refused) end
for item = 1, count do
  local extra = extras[item]
  if extra and extra.only then
    answers[item] = answers[item] or 'E'
  elseif not answers[item] and not (extra and extra.quarantined) then
    if redis.call('ZREM', leases, ARGV[5 * item]) == 1 then
      mine[#mine + 1], tags[#tags + 1] = item, ARGV[5 * item + 1]
    else
      answers[item] = '0'
    end
  end
end
if #tags > 0 then
  local removed
  removed, refused = try('ZREM', index, unpack(tags))
  if refused then
    for _, item in ipairs(mine) do keep(item) end
    return redis.error_reply(refused)
  end
  if removed < #tags then drop_taken() end
end

-- 2. The result.

-- include: is_terminal

-- The first terminal result stays.
local function store(key, ttl, document)
  local done, refused = try('SET', key, document, 'NX', 'PX', ttl)
  if done == false then
    done, refused = try('GET', key)
    if refused then return refused end
    if is_terminal(done) then return nil end
    done, refused = try('SET', key, document, 'PX', ttl)
  end
  if refused then return refused end
  done, refused = try('PUBLISH', key, document)
  -- Who may not publish has not stored it either: the next attempt must not find it there.
  if refused then redis.call('DEL', key) end
  return refused
end

-- 3. The verdict. Each returns the error that keeps the delivery ours, or nothing.

local function element_of(item)
-- include: element_in
  local value = redis.call('HGET', unacked, ARGV[5 * item + 1])
  local raw = value and element_in(value)
  return raw, not raw and 'ERR what Celery\'s unacked holds of it is no message' or nil
end

local function is_redelivered(raw)
  return string.find(raw, '"redelivered": true', 1, true) or string.find(raw, '"redelivered":true', 1, true)
end

local function nack(item)
  local tag, raw, refused = ARGV[5 * item + 1], element_of(item)
  if refused then return refused end
  _, refused = try('RPUSH', string.match(ARGV[5 * item], '^[^%z]*'), raw)
  if refused then return refused end
  -- Celery, which restored it once, has no count.
  local seen = redis.pcall('HINCRBY', deliveries, tag, 1)
  if seen == 1 and is_redelivered(raw) then redis.call('HINCRBY', deliveries, tag, 1) end
  -- Messages that Celery workers finish leave their counts behind.
  redis.pcall('EXPIRE', deliveries, 604800)
end

local function reject(place)
  local letter, value = unpack(ARGV, place + 1, place + 2)
  local key = letters .. string.sub(letter, 3)
  local _, refused = try('SET', key, value)
  if refused then return refused end
  _, refused = try('ZADD', names, 0, letter)
  if refused then redis.call('DEL', key) end
  return refused
end

local function delay(place)
  local delayed, messages, id, queue, due, element = unpack(ARGV, place + 1, place + 6)
  local _, refused = try('ZADD', delayed, due, id)
  if not refused then _, refused = try('HSET', messages, id, element) end
  if not refused then _, refused = try('HSET', delayed_queues, id, queue) end
  return refused
end

local function say_retry(place)
  local binding, key, ttl, document = unpack(ARGV, place + 1, place + 4)
  if binding == '' or redis.call('EXISTS', binding) == 1 then return store(key, ttl, document) end
end

local function decide(item, extra)
  if extra.nack then return not extra.quarantined and nack(item) or nil end
  local refused
  if extra.reject then refused = reject(extra.reject) end
  if extra.replace then _, refused = try('LPUSH', ARGV[extra.replace + 1], ARGV[extra.replace + 2]) end
  if extra.delay then refused = delay(extra.delay) end
  if not refused and extra.retrying then say_retry(extra.retrying) end
  if not refused and extra.counted then redis.pcall('HDEL', deliveries, ARGV[5 * item + 1]) end
  return refused
end

local function finish(item, extra)
  local key, refused = ARGV[5 * item + 2], nil
  if key ~= '' then refused = store(key, ARGV[5 * item + 3], ARGV[5 * item + 4]) end
  -- What is somebody else's key cannot be a result, ever: without this the task would come back for ever.
  if refused and extra and extra.reject and string.find(refused, '^WRONGTYPE') then refused = nil end
  if extra and not refused then refused = decide(item, extra) end
  answers[item] = refused and 'E' or '1'
  if refused and refusal == '' then refusal = refused end
  return refused
end

-- The last one first: what goes back to the front of its list keeps its order.
local gone = {}
for place = #mine, 1, -1 do
  local item = mine[place]
  if finish(item, extras[item]) then keep(item)
  else gone[#gone + 1] = ARGV[5 * item + 1] end
end
if #gone > 0 then redis.call('HDEL', unacked, unpack(gone)) end

local function finish_letter(item, extra)
  local letter = ARGV[5 * item]
  local key = letters .. string.sub(letter, 3)
  if redis.call('EXISTS', key) == 0 then
    answers[item] = '0'
  elseif not finish(item, extra) and not extra.nack then
    redis.call('DEL', key)
    redis.call('ZREM', names, letter)
  end
end

for item, extra in pairs(extras) do
  if extra.quarantined and not answers[item] then finish_letter(item, extra) end
end

-- 4. Remember.

local text = table.concat(answers)
redis.pcall('SET', marker, ARGV[1] .. ':' .. text, 'EX', ARGV[3])
return {text, refusal}
