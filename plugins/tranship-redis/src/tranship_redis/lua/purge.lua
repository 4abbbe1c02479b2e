-- Removes waiting messages of one queue.
-- KEYS: a list of the queue, delayed, delayed-messages, delayed-queues
-- ARGV: how many elements of the list, these, then the ids of delayed tasks
-- Returns for each, in order: 1, or 0 where it does not wait there any more
local list, delayed, messages, queues = unpack(KEYS)
local last = ARGV[1] + 1
local gone = {}
-- From the end that is served next: there they are found at once when everything goes.
for i = 2, last do gone[#gone + 1] = redis.call('LREM', list, -1, ARGV[i]) end
for i = last + 1, #ARGV do
  gone[#gone + 1] = redis.call('ZREM', delayed, ARGV[i])
  redis.call('HDEL', messages, ARGV[i])
  redis.call('HDEL', queues, ARGV[i])
end
return gone
