-- Returns the member "properties" of an element and what stands behind it, as an element of its own; '' where its last
-- 4096 bytes hold none. Celery and we write it last.
local function ending_of(element)
  local tail, last = string.sub(element, -4096), nil
  local at = string.find(tail, '"properties":', 1, true)
  while at do
    last = at
    at = string.find(tail, '"properties":', at + 1, true)
  end
  return last and '{' .. string.sub(tail, last) or ''
end
