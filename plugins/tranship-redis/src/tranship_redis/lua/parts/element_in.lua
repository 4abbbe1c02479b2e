-- Returns the element in a value of Celery's unacked, [<element>, "<exchange>", "<routing key>"]; nil: it is none.
-- Looked for from the end, each mark once: neither stands inside of a name, because its second quote is not escaped.
local function element_in(value)
  if string.sub(value, 1, 1) ~= '[' or string.sub(value, -2) ~= '"]' then return nil end
  for _, most in ipairs({1024, #value}) do
    local back = string.reverse(string.sub(value, -most))
    local _, key = string.find(back, '" ,"', 3, true)
    local _, exchange = string.find(back, '" ,', (key or #back) + 1, true)
    if exchange and exchange < #value then return string.sub(value, 2, #value - exchange) end
  end
  return nil
end
