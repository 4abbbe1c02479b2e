-- Takes messages that were seen, wherever they stand in their lists or schedules, and holds them as a claim does.
-- Each is recorded before it is removed, so that nothing is lost whatever the server refuses.
-- KEYS: unacked, unacked_index, leases, what the keys of dead letters begin with, their index, delayed-queues
-- ARGV: lease in microseconds, then for each: claim token, delivery tag ("" = Celery must not meet it), what is written
--       to unacked, list or schedule, id of the delayed task ("" = it is in a list), its messages, element, queue, step
-- Returns for each: its claim token, or the name of its dead letter; "" when it is not there any more
local unacked, index, leases, letters, names, delayed_queues = unpack(KEYS)
local clock = redis.call('TIME')
local found = {}

-- include: set_apart

local function record(token, tag, value, queue, step, id, element)
  if tag == '' then
    local letter, refused =
      set_apart(letters, names, token, queue, step, 'malformed', 'not a complete message', id, element)
    return letter, refused
  end
  -- Two live messages with one tag would overwrite each other.
  if redis.call('HSETNX', unacked, tag, value) == 0 then return nil end
  local ends = clock[2] + ARGV[1]
  redis.call('ZADD', index, clock[1] .. string.format('.%06d', clock[2]), tag)
  redis.call('ZADD', leases, string.format('%d.%06d', clock[1] + math.floor(ends / 1000000), ends % 1000000), token)
  return token
end

local function forget(token, tag, letter)
  if tag == '' then
    redis.call('DEL', letters .. string.sub(letter, 3))
    redis.call('ZREM', names, letter)
  else
    redis.call('HDEL', unacked, tag)
    redis.call('ZREM', index, tag)
    redis.call('ZREM', leases, token)
  end
end

for at = 2, #ARGV, 9 do
  local token, tag, value, place, id, messages, element, queue, step = unpack(ARGV, at, at + 8)
  local held, refused = record(token, tag, value, queue, step, id, element)
  if refused then return redis.error_reply(refused) end
  if held then
    local removed
    if id == '' then
      -- From the end that is served next: there they are found at once when everything goes.
      removed = redis.call('LREM', place, -1, element)
    else
      removed = redis.call('ZREM', place, id)
      redis.call('HDEL', messages, id)
      redis.call('HDEL', delayed_queues, id)
    end
    if removed == 0 then
      forget(token, tag, held)
      held = nil
    end
  end
  found[#found + 1] = held or ''
end
return found
