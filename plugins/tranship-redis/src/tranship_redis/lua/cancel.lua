-- Stores tombstones, removes cancelled tasks that are not due yet, and tells listeners: one step.
-- KEYS: tombstones, delayed-queues
-- ARGV: prefix, signals channel, signal ("" = tell nobody), mailbox channel, revoke ("" = do not tell Celery),
--       default result TTL in ms, how many, then for each: member, expires, task id ("" = a key),
--       its CANCELLED document, name of a key to set ("" = none)
-- Returns the ids of the tasks that were removed.
local prefix = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6

-- The first write: a server without memory refuses here, before anything has been done.
for i = 8, #ARGV, 5 do redis.call('ZADD', KEYS[1], 'GT', ARGV[i + 1], ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.3f', now))

-- include: is_terminal

-- include: ending_of
-- include: message_of

-- The document was written before anybody knew which attempt was waiting.
local function with_attempt(document, retries)
  if type(retries) ~= 'number' or retries < 1 or retries > 127 then return document end
  local mark, count = '"attempt":0', '"attempt":' .. string.format('%d', retries)
  if string.sub(document, 1, 1) ~= '{' then mark, count = '\167attempt\0', '\167attempt' .. string.char(retries) end
  local first, last = string.find(document, mark, 1, true)
  return first and string.sub(document, 1, first - 1) .. count .. string.sub(document, last + 1) or document
end

local function store(id, document, headers)
  if headers.ignore_result == true then return end
  local key = prefix .. 'celery-task-meta-' .. id
  if is_terminal(redis.pcall('GET', key)) then return end
  local own = headers['tranship-result-ttl']
  local ttl = type(own) == 'number' and own > 0 and own * 1000 or tonumber(ARGV[6])
  document = with_attempt(document, headers.retries)
  redis.call('SET', key, document, 'PX', string.format('%d', math.max(1, math.min(ttl, 1e15))))
  redis.call('PUBLISH', key, document)
end

local removed = {}
for i = 8, #ARGV, 5 do
  local id = ARGV[i + 2]
  local queue = id ~= '' and redis.call('HGET', KEYS[2], id)
  if queue then
    local messages = prefix .. 'tranship:delayed-messages:' .. queue
    local element = redis.call('HGET', messages, id)
    if redis.call('ZREM', prefix .. 'tranship:delayed:' .. queue, id) == 1 then
      store(id, ARGV[i + 3], headers_of(element and message_of(string.sub(element, 2))))
      removed[#removed + 1] = id
    end
    redis.call('HDEL', messages, id)
    redis.call('HDEL', KEYS[2], id)
  end
end

if ARGV[3] ~= '' then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
-- Who may not speak on Celery's channel has no Celery workers either.
if ARGV[5] ~= '' then redis.pcall('PUBLISH', ARGV[4], ARGV[5]) end

-- Last, because only this can be refused: names are the user's. Never in the way of a queue.
for i = 8, #ARGV, 5 do
  local flag = ARGV[i + 4]
  local queue = string.sub(flag, 1, #prefix) == prefix and string.sub(flag, #prefix + 1) or flag
  if flag ~= '' and redis.call('SISMEMBER', prefix .. 'tranship:queues', queue) == 0
      and redis.call('EXISTS', prefix .. '_kombu.binding.' .. queue) == 0 then
    local left = math.ceil(ARGV[i + 1] - now)
    if left > 0 then redis.call('SET', flag, '1', 'NX', 'EX', string.format('%d', left)) end
  end
end
return removed
