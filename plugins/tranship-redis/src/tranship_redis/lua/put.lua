-- Stores results, each unless a terminal one is there already, and tells who waits for them.
-- KEYS: result keys, which are also the channels
-- ARGV: for each key its TTL in ms and the document
-- Returns for each key 1 (stored) or 0 (another terminal result was there first and stays).

-- include: is_terminal

local refusal

-- Some servers do not say which command it is that this user may not use.
local function refused(reply, command)
  if type(reply) ~= 'table' or not reply.err then return false end
  refusal = { err = reply.err .. ' [' .. command .. ']' }
  return true
end

local function put(key, ttl, document)
  local found = redis.pcall('GET', key)
  -- Who may not look must not write, and what is no text under this name is somebody else's.
  if refused(found, 'GET') then
    refusal.err = refusal.err .. ' (key ' .. key .. ')'
    return
  end
  if is_terminal(found) then return 0 end
  if refused(redis.pcall('SET', key, document, 'PX', ttl), 'SET') then return end
  if refused(redis.pcall('PUBLISH', key, document), 'PUBLISH') then
    -- Who may not tell has not stored it either: the next attempt must not find it there.
    redis.call('DEL', key)
    return
  end
  return 1
end

local answers = {}
for i, key in ipairs(KEYS) do
  answers[i] = put(key, ARGV[2 * i - 1], ARGV[2 * i])
  if refusal then return refusal end
end
return answers
