-- Puts back, at the front of their lists and counted, deliveries whose lease has ended.
-- KEYS: unacked, unacked_index, leases, deliveries
-- ARGV: how many at most
-- Returns: how many were put back, how many leases ended, ms until the next one ends (-1: there is none), trouble
local unacked, index, leases, deliveries = unpack(KEYS)
local clock = redis.call('TIME')
local now = clock[1] .. '.' .. string.format('%06d', clock[2])
local restored, trouble = 0, {}

local function count(tag, raw)
  -- Celery, which restored it once, has no count.
  if redis.pcall('HINCRBY', deliveries, tag, 1) == 1
      and (string.find(raw, '"redelivered": true', 1, true) or string.find(raw, '"redelivered":true', 1, true)) then
    redis.call('HINCRBY', deliveries, tag, 1)
  end
  -- Messages that Celery workers finish leave their counts behind.
  redis.pcall('EXPIRE', deliveries, 604800)
end

-- Taken after the lease had ended: what it was for was restored by Celery, and somebody else is at work on it. Who
-- renews a lease renews the time of taking with it, so that of our own claims is always before their lease's end.
local function is_anothers(token, tag)
  local taken = tonumber(redis.call('ZSCORE', index, tag))
  return taken ~= nil and taken > tonumber(redis.call('ZSCORE', leases, token))
end

-- include: element_in

local function restore(token)
  local list, tag = string.match(token, '^([^%z]*)%z(.*)%z[^%z]*$')
  local value = tag and redis.call('HGET', unacked, tag)
  local raw = value and not is_anothers(token, tag) and element_in(value)
  -- First: a server that is out of memory refuses no step behind one that frees some.
  redis.call('ZREM', leases, token)
  if not raw then return end
  local pushed = redis.pcall('RPUSH', list, raw)
  if type(pushed) == 'table' and pushed.err then
    trouble[#trouble + 1], trouble[#trouble + 2] = list, pushed.err .. ' (RPUSH ' .. list .. ')'
    -- Tried again a little later.
    return redis.call('ZADD', leases, string.format('%.6f', now + 5), token)
  end
  count(tag, raw)
  redis.call('ZREM', index, tag)
  redis.call('HDEL', unacked, tag)
  restored = restored + 1
end

-- The last one first: they come out again in the order in which they were taken.
local ended = redis.call('ZREVRANGEBYSCORE', leases, now, '-inf', 'LIMIT', 0, ARGV[1])
for _, token in ipairs(ended) do restore(token) end
local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
return {restored, #ended, first and math.max(0, math.ceil((first - now) * 1000)) or -1, trouble}
