-- Gives deliveries back to the front of their lists, not counted.
-- KEYS: unacked, unacked_index, leases, what the keys of dead letters begin with, their index
-- ARGV: how many, their claim tokens in the order in which they came, then for each quarantined one: list, dead letter
-- Returns: one character for each (1: given back, 0: not ours any more, E: refused, and still ours), first the tokens, then
--          the quarantined ones; and the first error or ""
local unacked, index, leases, letters, names = unpack(KEYS)
local count, said, refusal = tonumber(ARGV[1]), {}, ''

local function push(list, raw)
  local pushed = redis.pcall('RPUSH', list, raw)
  if type(pushed) ~= 'table' or not pushed.err then return true end
  if refusal == '' then refusal = pushed.err .. ' (RPUSH ' .. list .. ')' end
  return false
end

-- include: element_in

local function give_back(token)
  local list, tag = string.match(token, '^([^%z]*)%z(.*)%z[^%z]*$')
  local score = redis.call('ZSCORE', leases, token)
  -- First: a server that is out of memory refuses no step behind one that frees some.
  if not score or redis.call('ZREM', leases, token) == 0 then return '0' end
  local value = redis.call('HGET', unacked, tag)
  local raw = value and element_in(value)
  if not raw then return '0' end
  if not push(list, raw) then
    -- It is tried again when its lease ends.
    redis.call('ZADD', leases, score, token)
    return 'E'
  end
  redis.call('ZREM', index, tag)
  redis.call('HDEL', unacked, tag)
  return '1'
end

local function take_out(list, letter)
  local key = letters .. string.sub(letter, 3)
  -- The version, what is said of the letter, the sizes of two parts, these, and the element.
  local packed = string.match(redis.call('GET', key) or '', '^%d+\n[^\n]*\n(.*)$')
  if not packed then return '0' end
  local head, headers = struct.unpack('>I4I4', packed)
  if not push(list, string.sub(packed, 9 + head + headers)) then return 'E' end
  redis.call('DEL', key)
  redis.call('ZREM', names, letter)
  return '1'
end

for i = #ARGV - 1, count + 2, -2 do said[count + (i - count) / 2] = take_out(ARGV[i], ARGV[i + 1]) end
-- The last one first: they come out again in the order in which they came.
for i = count + 1, 2, -1 do said[i - 1] = give_back(ARGV[i]) end
return {table.concat(said), refusal}
