-- From what a script returns to the reply as it goes over the wire.

local S, host = ...

local type, rawget, next, getmetatable, ask = type, rawget, next, getmetatable, S.ask
local format, gsub, match, sub = string.format, string.gsub, string.match, string.sub
local concat = table.concat

-- Tables within tables: where Redis's stack ends.
local DEPTH_MAX = 7995
local SHORT = 256 -- strings below are joined with what surrounds them
local DEPTH_EXCEEDED = "-ERR reached lua stack limit\r\n"

local function one_line(text)
  return (gsub(text, "[\r\n]", " "))
end

local function bulk(text)
  return "$" .. #text .. "\r\n" .. text .. "\r\n"
end


-- Errors in the reply that is being made: their texts, a line each, but for those that a command has raised, which
-- have been counted. nil: there are none.
local errors

local add

-- Pieces of a table that is no array, if it is one of those that stand for something else: the new number of
-- pieces, or nil.
local function add_special(parts, n, value, resp, script_resp, depth)
  local member = rawget(value, "err")
  if type(member) == "string" then
    local message = one_line(match(match(member, "^[^%z]*"), "^(.-)[\r\n]*$"))
    parts[n + 1] = "-" .. message .. "\r\n"
    errors = errors or {}
    if rawget(value, "ignore_error_stats_update") ~= true then
      errors[#errors + 1] = message .. "\n"
    end
    return n + 1
  end
  member = rawget(value, "ok")
  if type(member) == "string" then
    parts[n + 1] = "+" .. one_line(match(member, "^[^%z]*")) .. "\r\n"
    return n + 1
  end
  member = rawget(value, "double")
  if type(member) == "number" then
    local text = member == 0 and 1 / member < 0 and "-0" or ask(host.format_double, member)
    parts[n + 1] = resp == 2 and bulk(text) or "," .. text .. "\r\n"
    return n + 1
  end
  member = rawget(value, "big_number")
  if type(member) == "string" then
    local digits = one_line(member)
    parts[n + 1] = resp == 2 and bulk(digits) or "(" .. digits .. "\r\n"
    return n + 1
  end
  member = rawget(value, "verbatim_string")
  if type(member) == "table" then
    local kind, text = rawget(member, "format"), rawget(member, "string")
    if type(kind) == "string" and type(text) == "string" then
      if resp == 2 then
        parts[n + 1] = bulk(text)
      else
        kind = sub(kind .. "   ", 1, 3)
        parts[n + 1] = "=" .. #text + 4 .. "\r\n" .. kind .. ":" .. text .. "\r\n"
      end
      return n + 1
    end
  end
  member = rawget(value, "map")
  if type(member) == "table" then
    local at, size = n + 1, 0
    n = at
    for key, item in next, S.protected[member] or member do
      n = add(parts, n, key, resp, script_resp, depth)
      n = add(parts, n, item, resp, script_resp, depth)
      size = size + 1
    end
    parts[at] = resp == 2 and "*" .. 2 * size .. "\r\n" or "%" .. size .. "\r\n"
    return n
  end
  member = rawget(value, "set")
  if type(member) == "table" then
    local at, size = n + 1, 0
    n = at
    for key in next, S.protected[member] or member do
      n = add(parts, n, key, resp, script_resp, depth)
      size = size + 1
    end
    parts[at] = (resp == 2 and "*" or "~") .. size .. "\r\n"
    return n
  end
  return nil
end

function add(parts, n, value, resp, script_resp, depth)
  local kind = type(value)
  if kind == "string" then
    if #value < SHORT then
      parts[n + 1] = "$" .. #value .. "\r\n" .. value .. "\r\n"
      return n + 1
    end
    parts[n + 1] = "$" .. #value .. "\r\n"
    parts[n + 2] = value
    parts[n + 3] = "\r\n"
    return n + 3
  elseif kind == "number" then
    parts[n + 1] = format(":%d\r\n", value)
    return n + 1
  elseif kind == "table" then
    if depth >= DEPTH_MAX then
      parts[n + 1] = DEPTH_EXCEEDED
      return n + 1
    end
    -- A table without a metatable, as nearly all are, can be looked into without calls of rawget.
    local get = getmetatable(value) ~= nil and rawget or nil
    if get or value.err ~= nil or value.ok ~= nil or value.double ~= nil or value.map ~= nil or value.set ~= nil
      or value.big_number ~= nil or value.verbatim_string ~= nil then
      local special = add_special(parts, n, value, resp, script_resp, depth + 1)
      if special then
        return special
      end
    end
    local at, size = n + 1, 0
    n = at
    while true do
      local item
      if get then
        item = get(value, size + 1)
      else
        item = value[size + 1]
      end
      if item == nil then
        break
      end
      size = size + 1
      n = add(parts, n, item, resp, script_resp, depth + 1)
    end
    parts[at] = "*" .. size .. "\r\n"
    return n
  elseif kind == "boolean" and (value or script_resp == 3) then
    if script_resp == 3 and resp == 3 then
      parts[n + 1] = value and "#t\r\n" or "#f\r\n"
    else
      parts[n + 1] = value and ":1\r\n" or ":0\r\n"
    end
    return n + 1
  end
  parts[n + 1] = resp == 2 and "$-1\r\n" or "_\r\n"
  return n + 1
end

-- Return a table as a reply, and the errors in it.
function S.encode_reply(value, resp, script_resp)
  local parts = {}
  errors = nil
  add(parts, 0, value, resp, script_resp, 0)
  return concat(parts), errors and concat(errors)
end
