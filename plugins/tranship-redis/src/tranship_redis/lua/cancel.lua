-- Removes cancelled tasks that are not due yet, each in one step with its result.
-- KEYS: delayed-queues
-- ARGV: prefix, default result TTL in ms, then for each: task id, its CANCELLED document
-- Returns the ids of the tasks that were removed.
local prefix, removed = ARGV[1], {}

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
  local ttl = type(own) == 'number' and own > 0 and own * 1000 or tonumber(ARGV[2])
  document = with_attempt(document, headers.retries)
  redis.call('SET', key, document, 'PX', string.format('%d', math.max(1, math.min(ttl, 1e15))))
  redis.call('PUBLISH', key, document)
end

for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local queue = redis.call('HGET', KEYS[1], id)
  if queue then
    local messages = prefix .. 'tranship:delayed-messages:' .. queue
    local element = redis.call('HGET', messages, id)
    if redis.call('ZREM', prefix .. 'tranship:delayed:' .. queue, id) == 1 then
      store(id, ARGV[i + 1], headers_of(element and message_of(string.sub(element, 2))))
      removed[#removed + 1] = id
    end
    redis.call('HDEL', messages, id)
    redis.call('HDEL', KEYS[1], id)
  end
end
return removed
