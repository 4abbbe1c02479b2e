-- Puts back one message that a Celery worker took and has held for longer than the visibility timeout, as kombu does.
-- KEYS: unacked, unacked_index, list
-- ARGV: delivery tag, the latest time of taking that is too long ago, element ("" = unacked does not hold the tag)
-- Returns: 1 when it was put back
local unacked, index, list = unpack(KEYS)
local tag, element = ARGV[1], ARGV[3]
local taken = tonumber(redis.call('ZSCORE', index, tag))
-- Somebody else was faster, and it may be in other hands by now.
if not taken or taken > tonumber(ARGV[2]) then return 0 end
if redis.call('HEXISTS', unacked, tag) == 0 then return redis.call('ZREM', index, tag) * 0 end
if element == '' then return 0 end
redis.call('RPUSH', list, element)
redis.call('ZREM', index, tag)
redis.call('HDEL', unacked, tag)
return 1
