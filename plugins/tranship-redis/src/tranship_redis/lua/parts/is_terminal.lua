-- A document that cannot be read is nobody's result: it gives way. Celery and we write the status first, in JSON or
-- msgpack; that is looked for, because the server's msgpack does not read all that Python's writes (no bytes). What
-- begins otherwise is decoded unless it is long: decoding keeps everybody waiting who uses the server.
local function is_terminal(document)
  if type(document) ~= 'string' then return false end
  local status = string.match(document, '^{%s*"status"%s*:%s*"(%u+)"')
    or string.match(document, '^[\128-\143]\166status\167(%u%u%u%u%u%u%u)')
    or string.match(document, '^\222..\166status\167(%u%u%u%u%u%u%u)')
  if not status and #document <= 65536 then
    local read = string.match(document, '^%s*{') and cjson.decode or cmsgpack.unpack
    local ok, found = pcall(read, document)
    status = ok and type(found) == 'table' and found.status
  end
  return status == 'SUCCESS' or status == 'FAILURE' or status == 'REVOKED'
end
