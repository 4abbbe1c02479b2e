-- Makes delayed messages of one queue ready before their time, the earliest first, as a claim does with those that are due.
-- KEYS: delayed, delayed-messages, delayed-queues
-- ARGV: how many, the queue's list of step 0
-- Returns: how many
local delayed, messages, queues = unpack(KEYS)
local count = 0

-- include: list_of

for _, id in ipairs(redis.call('ZRANGE', delayed, 0, ARGV[1] - 1)) do
  local found = redis.call('HGET', messages, id)
  if found then
    local list = list_of(ARGV[2], found)
    -- First what may be refused: then nothing has changed.
    redis.call('LPUSH', list, string.sub(found, 2))
    redis.call('HDEL', messages, id)
    count = count + 1
  end
  redis.call('ZREM', delayed, id)
  redis.call('HDEL', queues, id)
end
return count
