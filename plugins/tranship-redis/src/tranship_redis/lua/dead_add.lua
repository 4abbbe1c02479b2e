-- Keeps dead letters of another broker.
-- KEYS: dead, dead-ids
-- ARGV: per letter: queue, step, reason, detail, task id, deliveries, time of death in epoch seconds, element
-- Returns: how many
local dead, dead_ids = unpack(KEYS)
for at = 1, #ARGV, 8 do
  local queue, step, reason, detail, id, deliveries, died, element = unpack(ARGV, at, at + 7)
  local letter = redis.call('XADD', dead, '*', 'queue', queue, 'step', step, 'tag', '', 'reason', reason,
    'detail', detail, 'task_id', id, 'deliveries', deliveries, 'died', died, 'element', element)
  redis.call('HSET', dead_ids, id, letter)
end
return #ARGV / 8
