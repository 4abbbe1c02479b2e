-- Reads results, and stops behind the one that makes them too many bytes for one answer.
-- KEYS: result keys
-- ARGV: how many bytes
-- Returns the documents of the first keys, at least one; nil where there is none; last of all, instead of a document
--   that is too long for any answer, how long it is.
local enough = tonumber(ARGV[1])
local documents, left = {}, enough
for place, key in ipairs(KEYS) do
  local document = redis.pcall('GET', key)
  if type(document) == 'string' then
    left = left - #document
    if #document > 2 * enough then document = #document end
  else
    -- Another program's list under this name is no result; who may not read at all is told.
    if document and not string.find(document.err, 'WRONGTYPE', 1, true) then return document end
    document = false
  end
  documents[place] = document
  if left < 0 then break end
end
return documents
