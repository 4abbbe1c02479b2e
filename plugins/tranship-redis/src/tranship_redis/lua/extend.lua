-- Renews leases by one full lease from now, and what Celery's sweeps look at with them.
-- KEYS: unacked, unacked_index, leases
-- ARGV: lease in microseconds, how many, their claim tokens, their delivery tags
-- Returns: one character per item (1: ours, 0: not any more)
local unacked, index, leases = unpack(KEYS)
local count = tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] .. '.' .. string.format('%06d', clock[2])

-- A microsecond later for each, so that a sweep finds them in their order.
local function lease_end(item)
  local microseconds = clock[2] + ARGV[1] + item
  return string.format('%d.%06d', clock[1] + math.floor(microseconds / 1000000), microseconds % 1000000)
end

-- First: a server that is out of memory refuses no step behind one that may free some.
redis.call('ZREM', leases, '')
local held, seen = {}, {}
for item = 1, count do
  held[2 * item - 1], held[2 * item] = lease_end(item), ARGV[2 + item]
  seen[2 * item - 1], seen[2 * item] = now, ARGV[2 + count + item]
end
local renewed = redis.call('ZADD', leases, 'XX', 'CH', unpack(held))
if redis.call('ZADD', index, 'XX', 'CH', unpack(seen)) == count and renewed == count then
  return string.rep('1', count)
end

-- Some did not change; which?
local answers = {}
for item = 1, count do
  local token, tag = ARGV[2 + item], ARGV[2 + count + item]
  answers[item] = '0'
  if redis.call('ZSCORE', leases, token) then
    if redis.call('HEXISTS', unacked, tag) == 1 then answers[item] = '1'
    -- Celery took it away: a sweep with a shorter timeout, or a late acknowledgement.
    else redis.call('ZREM', leases, token) end
  end
end
return table.concat(answers)
