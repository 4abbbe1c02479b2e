-- Reads dead letters, no more at once than the connection can bear: one with subscriptions is cut by the server
-- when an answer is too long. Reads only.
-- KEYS: dead
-- ARGV: bytes that are enough, bytes that are too many for one element, ids
-- Returns: how many of the ids were looked at, then the entries found; too long an element is left out and its
--          size added as the field "omitted"
local found, size = {0}, 0
for i = 3, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    local fields = entry[2]
    for j = 1, #fields, 2 do
      local length = #fields[j + 1]
      if length > tonumber(ARGV[2]) then
        fields[#fields + 1], fields[#fields + 2] = 'omitted', tostring(length)
        fields[j + 1], length = '', 0
      end
      size = size + length
    end
    found[#found + 1] = entry
  end
  found[1] = found[1] + 1
  if size > tonumber(ARGV[1]) then break end
end
return found
