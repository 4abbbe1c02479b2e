-- Counts what is where. Reads only; grows with the number of queues and of leases.
-- KEYS: queues, leases
-- ARGV: prefix
-- Returns: now, {list key, leases, ...}, then per queue: name, ready at steps 0, 3, 6, 9, delayed,
--          and the time stamps of the oldest message of each step ("" = none is ready, "?" = it has none)
local prefix = ARGV[1]
local clock = redis.call('TIME')

local function size(command, key)
  local count = redis.pcall(command, key)
  return type(count) == 'number' and count or 0
end

-- include: ending_of

local function stamp(list)
  local raw = redis.pcall('LINDEX', list, -1)
  if type(raw) ~= 'string' then return '' end
  -- Decoding all of it would take too long for one number.
  local ok, message = pcall(cjson.decode, ending_of(raw))
  local properties = ok and type(message) == 'table' and message.properties
  local found = type(properties) == 'table' and properties.timestamp
  return type(found) == 'number' and string.format('%.6f', found) or '?'
end

local held = {}
for _, token in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local stop = string.find(token, '\0', 1, true)
  local list = stop and string.sub(token, 1, stop - 1) or token
  held[list] = (held[list] or 0) + 1
end
local leases = {}
for list, count in pairs(held) do
  leases[#leases + 1] = list
  leases[#leases + 1] = count
end

local found = {clock[1] .. '.' .. string.format('%06d', clock[2]), leases}
for _, queue in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local row = {queue}
  for i, step in ipairs({'', '\6\0223', '\6\0226', '\6\0229'}) do
    local list = prefix .. queue .. step
    row[i + 1] = size('LLEN', list)
    row[i + 6] = row[i + 1] > 0 and stamp(list) or ''
  end
  row[6] = size('ZCARD', prefix .. 'tranship:delayed:' .. queue)
  found[#found + 1] = row
end
return found
