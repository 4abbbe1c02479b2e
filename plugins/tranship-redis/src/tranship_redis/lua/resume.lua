-- Shuts out what an earlier connection may still have under way, and tells what of it has been applied.
-- KEYS: the marker
-- ARGV: the new epoch, TTL of the marker in ms
-- Returns the marker as it was: "<epoch>:<number of the last batch>:<exceptions>"; false: there is none.
local marker = redis.call('GET', KEYS[1])
local rest = marker and string.match(marker, '^%d+:(%d+:.*)$') or '0:'
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. rest, 'PX', ARGV[2])
return marker
