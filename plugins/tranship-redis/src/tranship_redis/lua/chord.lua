-- Counts a part of a chord in Celery's own keys, so that whoever is last starts its body: we or a Celery worker.
-- KEYS: parts (.j), difference (.t), size (.s), ids counted (.d), saved header, claim (.c)
-- ARGV: verb, and for
--   count: task id, part, score, seconds to keep it, seconds of a claim, token of the claim
--   finish: token of the claim, seconds for which it is remembered
--   start: size, seconds to keep it, saved header or nothing
--   known: nothing more
-- Returns for count {known, parts or false, saved header or false}: parts are there where the claim is ours, known is 2
-- where it is another's; for known 1 or 0; for the others 1.

local parts, difference, size, counted, header, claim = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local verb = ARGV[1]

local function is_list()
  return redis.call('TYPE', parts).ok == 'list'
end

local function count(id, part, score, keep, hold, token)
  -- Finished: what comes late must not begin it anew.
  if redis.call('GET', claim) == 'done' then return { 1, false, false } end
  local member = id .. ':' .. score
  local lists = is_list()
  if redis.call('SISMEMBER', counted, member) == 0 then
    if lists then
      redis.call('RPUSH', parts, part)
    else
      redis.call('ZADD', parts, score, part)
    end
    redis.call('SADD', counted, member)
  end
  for _, key in ipairs({ parts, difference, size, counted, header }) do
    redis.call('EXPIRE', key, keep)
  end
  local expected = redis.call('GET', size)
  if not expected then return { 0, false, false } end
  local ready = lists and redis.call('LLEN', parts) or redis.call('ZCARD', parts)
  if ready ~= tonumber(expected) + tonumber(redis.call('GET', difference) or 0) then return { 1, false, false } end
  if not redis.call('SET', claim, token, 'NX', 'EX', hold) then
    -- Ours from before we died is ours still; somebody else's is his.
    if redis.call('GET', claim) ~= token then return { 2, false, false } end
    redis.call('EXPIRE', claim, hold)
  end
  local found = lists and redis.call('LRANGE', parts, 0, -1) or redis.call('ZRANGE', parts, 0, -1)
  return { 1, found, redis.call('GET', header) }
end

if verb == 'count' then
  return count(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7])
elseif verb == 'finish' then
  if redis.call('GET', claim) == ARGV[2] then
    redis.call('DEL', parts, difference, size, counted)
    redis.call('SET', claim, 'done', 'EX', ARGV[3])
  end
  return 1
elseif verb == 'start' then
  if redis.call('EXISTS', size, claim) == 0 then
    redis.call('SET', size, ARGV[2], 'EX', ARGV[3])
    if ARGV[4] ~= '' then redis.call('SET', header, ARGV[4], 'EX', ARGV[3]) end
  end
  return 1
end
-- A chord that Celery has finished leaves nothing, not even what we have counted.
return (redis.call('EXISTS', size, claim) > 0 or redis.call('EXISTS', parts) == 0) and 1 or 0
