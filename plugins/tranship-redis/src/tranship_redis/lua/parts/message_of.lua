-- Elements are foreign text, and decoding one keeps everybody waiting who uses the server. So no more than 64 KB of one
-- are decoded: its body, which may be long, is cut out first, and where what is left is too long as well, only its
-- ending is decoded. Needs ending_of.

-- Returns the element without its body where that is a string and stands first, as Celery and we write it. The mark
-- behind it cannot stand inside of it, because the second quote of the mark is not escaped.
local function without_body(element)
  for _, space in ipairs({'', ' '}) do
    local head, mark = '{"body":' .. space .. '"', '",' .. space .. '"content-encoding":'
    if string.sub(element, 1, #head) == head then
      local stop = string.find(element, mark, #head, true)
      return stop and '{"body":"' .. string.sub(element, stop) or element
    end
  end
  return element
end

-- Returns the message in an element, without body, and without headers where they are too long; nil where there is
-- none. And the text that was decoded.
local function message_of(element)
  local text = without_body(element)
  if #text > 65536 then text = ending_of(text) end
  local ok, message = pcall(cjson.decode, text)
  return ok and type(message) == 'table' and message or nil, text
end

local function headers_of(message)
  local headers = message and message.headers
  return type(headers) == 'table' and headers or {}
end
