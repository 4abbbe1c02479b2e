-- Stores a batch of messages, once: see _marker.py for how a lost answer is found out.
-- KEYS: the marker of the connection
-- ARGV: the marker as it should be: "<epoch>:<number of the batch before>:", and as it is to become, with the number
--       of this one; the number of the last one answered, TTL of the marker in ms; then the steps of the batch, each of them
--         "push", list, how many, elements...
--       or one message that needs more: what ("c", "d", "l" in this order), list, task id, element, and for
--         "c" is it known: known key, result key, delayed-queues, TTL of the known key in ms
--         "d" dedup:       dedup key, window in ms
--         "l" later:       binding ("" = no Celery peers), when it is due, delayed, delayed-messages, delayed-queues,
--                          step digit, queue
-- Keys stand among the arguments: one that this user may not touch harms its own messages only.
-- Returns 0: refused, nothing was done; 1: done, without exceptions; else these as JSON, [[step, what, text]...]
--   with what "d": not stored, text is the id of the task that was there first; "e": not stored, text is the error.
local marker = redis.call('GET', KEYS[1]) or ''

-- Nearly all batches are pushes to one list, behind a batch without exceptions. They need nothing of what follows.
if marker == ARGV[1] and ARGV[5] == 'push' and #ARGV == 7 + tonumber(ARGV[7]) then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
  if type(redis.pcall('LPUSH', ARGV[6], unpack(ARGV, 8))) == 'number' then return 1 end
end

local mine, before = string.match(ARGV[1], '^(%d+):(%d+):$')
local number, answered = string.match(ARGV[2], ':(%d+):$'), tonumber(ARGV[3])
mine, before = tonumber(mine), tonumber(before)
local epoch, last, notes = string.match(marker, '^(%d+):(%d+):(.*)$')
epoch, last, notes = tonumber(epoch or 0), tonumber(last or 0), notes or ''

-- Sent by a connection that has been given up, or behind a batch that was not applied.
if epoch > mine or (before ~= answered and last ~= before) then return 0 end

-- Exceptions stay with the marker until their answer has arrived, because it would get lost with the connection.
local kept = {}
local readable, before_these = pcall(cjson.decode, notes)
for seq, note in pairs(readable and type(before_these) == 'table' and before_these or {}) do
  if (tonumber(seq) or 0) > answered then kept[seq] = note end
end

local function mark()
  notes = next(kept) and cjson.encode(kept) or ''
  redis.call('SET', KEYS[1], ARGV[2] .. notes, 'PX', ARGV[4])
end

-- The first write: a server that takes none says so here, before anything has been done.
mark()

local at = 4
local function take()
  at = at + 1
  return ARGV[at]
end

-- The server does not say which key it is that holds something else, and some not which command may not be used.
local function call(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then error(reply.err .. ' [' .. command .. ' ' .. key .. ']', 0) end
  return reply
end

local function push()
  local list, count = take(), tonumber(take())
  local first = at + 1
  at = at + count
  call('LPUSH', list, unpack(ARGV, first, at))
end

local function message(what)
  local m = { list = take(), id = take(), element = take() }
  if string.find(what, 'c', 1, true) then
    m.known, m.result, m.delayed_queues, m.known_ttl = take(), take(), take(), take()
  end
  if string.find(what, 'd', 1, true) then m.dedup, m.window = take(), take() end
  if string.find(what, 'l', 1, true) then
    m.binding, m.due, m.delayed, m.messages, m.delayed_queues, m.step, m.queue =
      take(), take(), take(), take(), take(), take(), take()
  end
  return m
end

local function first_of(m)
  if m.known and (call('EXISTS', m.known, m.result) > 0 or call('HEXISTS', m.delayed_queues, m.id) == 1) then
    return m.id
  end
  return m.dedup and call('GET', m.dedup)
end

local function write(m)
  if m.dedup then call('SET', m.dedup, m.id, 'PX', m.window) end
  if m.known then call('SET', m.known, '1', 'PX', m.known_ttl) end
  -- Celery keeps a task that is not due in a worker: the time stands in the message.
  if m.due and not (m.binding ~= '' and call('EXISTS', m.binding) == 1) then
    m.added = call('ZADD', m.delayed, m.due, m.id) == 1
    call('HSET', m.messages, m.id, m.step .. m.element)
    call('HSET', m.delayed_queues, m.id, m.queue)
  else
    call('LPUSH', m.list, m.element)
  end
end

local function store(m)
  local id = first_of(m)
  if id then return id end
  local done, why = pcall(write, m)
  if done then return end
  if m.dedup then redis.pcall('DEL', m.dedup) end
  if m.known then redis.pcall('DEL', m.known) end
  if m.added then
    redis.pcall('ZREM', m.delayed, m.id)
    redis.pcall('HDEL', m.messages, m.id)
  end
  error(why, 0)
end

local exceptions, step = {}, 0
while at < #ARGV do
  local what = take()
  local done, id
  if what == 'push' then
    done, id = pcall(push)
  else
    local m = message(what)
    done, id = pcall(store, m)
  end
  if not done then
    exceptions[#exceptions + 1] = { step, 'e', tostring(id) }
  elseif id then
    exceptions[#exceptions + 1] = { step, 'd', id }
  end
  step = step + 1
end

if #exceptions == 0 then return 1 end
kept[number] = exceptions
mark()
return cjson.encode(exceptions)
