-- Counts dead letters by queue, a piece of the stream at a time. Reads only.
-- KEYS: dead
-- ARGV: begin behind ("" = at the first), entries to look at
-- Returns: how many there are in all, "1" if this was the last piece, the last id seen, then queue, count, ...
local start, last = ARGV[1] == '' and '-' or '(' .. ARGV[1], ARGV[1]
local left, done, counts = tonumber(ARGV[2]), '', {}
while left > 0 and done == '' do
  local size = math.min(left, 10) -- they come with their messages, whatever their size
  local page = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', size)
  for _, entry in ipairs(page) do
    local fields, queue = entry[2], ''
    for i = 1, #fields, 2 do
      if fields[i] == 'queue' then queue = fields[i + 1] end
    end
    counts[queue] = (counts[queue] or 0) + 1
    last = entry[1]
  end
  if #page < size then done = '1' end
  left = left - size
  start = '(' .. last
end
local found = {redis.call('XLEN', KEYS[1]), done, last}
for queue, count in pairs(counts) do
  found[#found + 1] = queue
  found[#found + 1] = count
end
return found
