-- Finds dead letters, a piece of the stream at a time. Reads only.
-- KEYS: dead
-- ARGV: queue ("" = any), begin behind ("" = at the first), up to ("" = the newest there is now), ids wanted,
--       entries to look at
-- Returns: where to go on ("" = that was all), up to where, then the ids found
local queue, start, last = ARGV[1], ARGV[2] == '' and '-' or '(' .. ARGV[2], ARGV[3]
local wanted, left = tonumber(ARGV[4]), tonumber(ARGV[5])
if last == '' then
  local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  if not newest then return {'', ''} end
  last = newest[1]
end

local function is_wanted(fields)
  if queue == '' then return true end
  for i = 1, #fields, 2 do
    if fields[i] == 'queue' then return fields[i + 1] == queue end
  end
  return false
end

local found = {'', last}
while left > 0 do
  local count = math.min(left, 10) -- they come with their messages, whatever their size
  local page = redis.call('XRANGE', KEYS[1], start, last, 'COUNT', count)
  for _, entry in ipairs(page) do
    if is_wanted(entry[2]) then found[#found + 1] = entry[1] end
    if #found >= wanted + 2 then
      found[1] = entry[1]
      return found
    end
  end
  if #page < count then
    found[1] = ''
    return found
  end
  left = left - count
  found[1] = page[count][1]
  start = '(' .. found[1]
end
return found
