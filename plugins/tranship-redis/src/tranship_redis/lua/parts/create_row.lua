-- Creates a row; returns the value that is there already, or nil. An index that is the row's own key is none; with an
-- empty channel nobody is told.
local function create_row(key, index, name, value, ttl, channel, told)
  local created
  if ttl == '' then created = redis.call('SET', key, value, 'NX')
  else created = redis.call('SET', key, value, 'NX', 'PX', ttl) end
  if not created then return redis.call('GET', key) end
  if index ~= key then redis.call('ZADD', index, 0, name) end
  if channel ~= '' then redis.call('PUBLISH', channel, told) end
end
