-- Keeps an element that Celery must not meet as a dead letter of the driver kit: a row whose message has the element as
-- its body. Returns its name and the error, if there is one.
local function set_apart(letters, index, mark, queue, step, reason, detail, id, raw)
  local time = redis.call('TIME')
  local name = string.format('0%s%06d000-%s', time[1], time[2], string.sub(redis.sha1hex(mark), 1, 8))
  local level = string.format('%d', step / 3)
  -- An id that is no plain text would make all of it unreadable.
  if string.find(id, '[^\32-\126]') then id = '' end
  local facts = '[' .. cjson.encode(id) .. ',' .. cjson.encode(queue) .. ',' .. level .. ',null,0,null,null,true,null]'
  local head = '[' .. facts .. ',null,null,{}]'
  local about = cjson.encode({reason, detail, 1, time[1] + time[2] / 1e6})
  local value = '1\n' .. about .. '\n' .. struct.pack('>I4I4', #head, 2) .. head .. '{}' .. raw
  local stored = redis.pcall('SET', letters .. name, value)
  if stored.err then return nil, stored.err .. ' (SET ' .. letters .. name .. ')' end
  local added = redis.pcall('ZADD', index, 0, 'd/' .. name)
  if type(added) == 'table' then
    redis.call('DEL', letters .. name)
    return nil, added.err .. ' (ZADD ' .. index .. ')'
  end
  return 'd/' .. name
end
