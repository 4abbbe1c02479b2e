-- Queues one dead letter again, as if it were new: one step.
-- KEYS: dead, dead-ids, deliveries, queues, the list to push to, the task's result
-- ARGV: id of the entry, task id ("" = none), its old delivery tag ("" = none), queue, element
-- Returns 0 when somebody else has replayed or purged it meanwhile.
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
-- First: a server without memory, or a list that is none, refuses here, before anything has been done.
redis.call('LPUSH', KEYS[5], ARGV[5])
redis.call('XDEL', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then
  if redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[1] then redis.call('HDEL', KEYS[2], ARGV[2]) end
  redis.call('DEL', KEYS[6])
end
if ARGV[3] ~= '' then redis.call('HDEL', KEYS[3], ARGV[3]) end
redis.call('SADD', KEYS[4], ARGV[4])
return 1
