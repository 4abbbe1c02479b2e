-- Makes a worker known, by the server's clock; or forgets one that says it stops.
-- KEYS: workers
-- ARGV: name, heartbeat ("" = it stops), seconds after which a silent worker is forgotten
local workers, name, beat = KEYS[1], ARGV[1], ARGV[2]
if beat == '' then return redis.call('HDEL', workers, name) end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
redis.call('HSET', workers, name, string.format('%.3f ', now) .. beat)
-- Who died without a word is met here sooner or later: each beat looks at two, however many there are.
local some = redis.call('HRANDFIELD', workers, 2, 'WITHVALUES')
for i = 1, #some, 2 do
  local heard = tonumber(string.match(some[i + 1], '^[%d.]+'))
  if heard and heard < now - ARGV[3] then redis.call('HDEL', workers, some[i]) end
end
return 1
