-- Gives deliveries back to the front of their lists, not counted.
-- KEYS: unacked, unacked_index, leases, what the keys of dead letters begin with, their index
-- ARGV: how many, their claim tokens in the order in which they came, then for each quarantined one: list, dead letter
-- Returns: how many were given back, and the first error or ""
local unacked, index, leases, letters, names = unpack(KEYS)
local count, given, refusal = tonumber(ARGV[1]), 0, ''

local function push(list, raw)
  local pushed = redis.pcall('RPUSH', list, raw)
  if type(pushed) ~= 'table' or not pushed.err then
    given = given + 1
    return true
  end
  if refusal == '' then refusal = pushed.err .. ' (RPUSH ' .. list .. ')' end
  return false
end

-- include: element_in

local function give_back(token)
  local list, tag = string.match(token, '^([^%z]*)%z(.*)%z[^%z]*$')
  local score = redis.call('ZSCORE', leases, token)
  -- First: a server that is out of memory refuses no step behind one that frees some.
  if not score or redis.call('ZREM', leases, token) == 0 then return end
  local value = redis.call('HGET', unacked, tag)
  local raw = value and element_in(value)
  if raw and push(list, raw) then
    redis.call('ZREM', index, tag)
    redis.call('HDEL', unacked, tag)
  elseif raw then
    -- It is tried again when its lease ends.
    redis.call('ZADD', leases, score, token)
  end
end

local function take_out(list, letter)
  local key = letters .. string.sub(letter, 3)
  -- The version, what is said of the letter, the sizes of two parts, these, and the element.
  local packed = string.match(redis.call('GET', key) or '', '^%d+\n[^\n]*\n(.*)$')
  if not packed then return end
  local head, headers = struct.unpack('>I4I4', packed)
  if not push(list, string.sub(packed, 9 + head + headers)) then return end
  redis.call('DEL', key)
  redis.call('ZREM', names, letter)
end

for i = #ARGV - 1, count + 2, -2 do take_out(ARGV[i], ARGV[i + 1]) end
-- The last one first: they come out again in the order in which they came.
for i = count + 1, 2, -1 do give_back(ARGV[i]) end
return {given, refusal}
