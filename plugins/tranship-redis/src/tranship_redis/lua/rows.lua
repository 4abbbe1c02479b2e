-- Creates, writes or deletes rows, each together with its name in the index of its kind.
-- KEYS: for each row its key, and the index of its kind; its key once more where it is in none
-- ARGV: "create", "put" or "delete", then for each row: its name, the version that it has to be in ("" = any), its value,
--       TTL in ms ("" = none), the channel on which it is told of ("" = nobody is told), what is told
-- Returns for each, create: the value that is there already, nil where it was created; put and delete: 1: done, 0: not.
local verb, answers = ARGV[1], {}

-- include: create_row

local function is_in(key, version)
  return version == '' or string.match(redis.call('GETRANGE', key, 0, 20), '^%d*') == version
end

local function put(key, index, name, value, ttl)
  if ttl == '' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', ttl) end
  if index ~= key then redis.call('ZADD', index, 0, name) end
  return 1
end

-- A name whose row has gone by itself goes, too, whatever version is asked for.
local function delete(key, index, name, version)
  local deleted = is_in(key, version) and redis.call('DEL', key) or 0
  if index ~= key and redis.call('EXISTS', key) == 0 then redis.call('ZREM', index, name) end
  return deleted
end

for i = 1, #KEYS / 2 do
  local key, index = KEYS[2 * i - 1], KEYS[2 * i]
  local name, version, value, ttl, channel, told = unpack(ARGV, 6 * i - 4, 6 * i + 1)
  if verb == 'create' then answers[i] = create_row(key, index, name, value, ttl, channel, told) or false
  elseif verb == 'delete' then answers[i] = delete(key, index, name, version)
  else answers[i] = is_in(key, version) and put(key, index, name, value, ttl) or 0 end
  -- Names of rows whose time is over are met here sooner or later: each write of a row that has a time looks at two.
  if ttl ~= '' and index ~= key then
    for _, one in ipairs(redis.call('ZRANDMEMBER', index, 2)) do
      local other = string.sub(key, 1, #key - #name) .. one
      if redis.call('EXISTS', other) == 0 then redis.call('ZREM', index, one) end
    end
  end
end
return answers
