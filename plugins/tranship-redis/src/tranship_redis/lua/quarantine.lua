-- Moves deliveries whose elements are no JSON after all from unacked to the dead letters.
-- KEYS: unacked, unacked_index, leases, what the keys of dead letters begin with, their index
-- ARGV: for each: claim token, delivery tag, queue, step, reason, detail
-- Returns for each its dead letter, or "" when it is not ours any more
local unacked, index, leases, letters, names = unpack(KEYS)
local found = {}

-- include: element_in
-- include: set_apart

for at = 1, #ARGV, 6 do
  local token, tag, queue, step, reason, detail = unpack(ARGV, at, at + 5)
  local score = redis.call('ZSCORE', leases, token)
  local value = score and redis.call('ZREM', leases, token) == 1 and redis.call('HGET', unacked, tag)
  local raw, letter, refused = value and element_in(value), nil, nil
  if raw then letter, refused = set_apart(letters, names, token, queue, step, reason, detail, '', raw) end
  if refused then
    redis.call('ZADD', leases, score, token)
    return redis.error_reply(refused)
  end
  if letter then
    redis.call('ZREM', index, tag)
    redis.call('HDEL', unacked, tag)
  end
  found[#found + 1] = letter or ''
end
return found
