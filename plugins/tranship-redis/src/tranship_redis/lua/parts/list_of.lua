-- Returns the list that a delayed message goes to: its first character is the step. What has none of Celery's steps goes
-- where it is looked at, and not where nobody would find it.
local function list_of(first, message)
  local step = string.sub(message, 1, 1)
  local is_step = step == '3' or step == '6' or step == '9'
  return is_step and first .. '\6\022' .. step or first
end
