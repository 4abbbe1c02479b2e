-- Answers a broadcast of Celery's remote control, if the asker still waits for answers.
-- KEYS: bindings of the reply exchange, the asker's list
-- ARGV: the asker's binding, the answer, seconds after which answers nobody fetched are forgotten
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
