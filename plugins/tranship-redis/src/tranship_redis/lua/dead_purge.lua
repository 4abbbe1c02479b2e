-- Deletes dead letters.
-- KEYS: dead, dead-ids, deliveries
-- ARGV: ids of the entries; none at all: every dead letter there is
-- Returns how many there were.
if #ARGV == 0 then
  local all = redis.call('XLEN', KEYS[1])
  redis.call('UNLINK', KEYS[1], KEYS[2])
  return all
end
local deleted = 0
for _, id in ipairs(ARGV) do
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if entry then
    local values = {}
    for i = 1, #entry[2], 2 do values[entry[2][i]] = entry[2][i + 1] end
    redis.call('XDEL', KEYS[1], id)
    local task = values.task_id
    if task and redis.call('HGET', KEYS[2], task) == id then redis.call('HDEL', KEYS[2], task) end
    if values.tag and values.tag ~= '' then redis.call('HDEL', KEYS[3], values.tag) end
    deleted = deleted + 1
  end
end
return deleted
