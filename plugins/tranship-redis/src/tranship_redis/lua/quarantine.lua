-- Moves deliveries whose elements are no JSON after all from unacked to the dead letters.
-- KEYS: unacked, unacked_index, leases, dead, dead-ids
-- ARGV: for each: claim token, delivery tag, queue, step, reason, detail
-- Returns for each its dead letter, or "" when it is not ours any more
local unacked, index, leases, dead = unpack(KEYS)
local letters = {}

-- include: element_in

for at = 1, #ARGV, 6 do
  local token, tag, queue, step, reason, detail = unpack(ARGV, at, at + 5)
  local score = redis.call('ZSCORE', leases, token)
  local value = score and redis.call('ZREM', leases, token) == 1 and redis.call('HGET', unacked, tag)
  local raw = value and element_in(value)
  local letter = raw and redis.pcall('XADD', dead, '*', 'queue', queue, 'step', step, 'tag', '', 'reason', reason,
    'detail', detail, 'task_id', '', 'deliveries', 1, 'element', raw)
  if type(letter) == 'table' then
    redis.call('ZADD', leases, score, token)
    return redis.error_reply(letter.err .. ' (XADD ' .. dead .. ')')
  end
  if letter then
    redis.call('ZREM', index, tag)
    redis.call('HDEL', unacked, tag)
  end
  letters[#letters + 1] = letter or ''
end
return letters
