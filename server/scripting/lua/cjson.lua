-- cjson: JSON as lua-cjson 2.1.0 reads and writes it, its numbers, its messages and its settings included.

local S = ...

local type, select, tostring, tonumber, error, next = type, select, tostring, tonumber, error, next
local raw_pcall, raw_setmetatable, getmetatable, newproxy = pcall, setmetatable, getmetatable, newproxy
local format, find, sub, byte, char, gsub, lower =
  string.format, string.find, string.sub, string.byte, string.char, string.gsub, string.lower
local concat, floor, huge = table.concat, math.floor, math.huge
local protected = S.protected

-- Stands for null: a value that equals nothing else and that no script can look into.
local null = newproxy(true)
local null_meta = getmetatable(null)
null_meta.__tostring = function() return "userdata: (nil)" end
null_meta.__metatable = false

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\b"] = "\\b", ["\t"] = "\\t", ["\n"] = "\\n",
  ["\f"] = "\\f", ["\r"] = "\\r", ["\127"] = "\\u007f" }
for code = 0, 31 do
  local c = char(code)
  ESCAPES[c] = ESCAPES[c] or format("\\u%04x", code)
end
local UNESCAPES = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", t = "\t", n = "\n", f = "\f", r = "\r" }

local function fail(...)
  error(format(...), 0)
end

-- Writing

local function quoted(text)
  return '"' .. gsub(text, '[%c"\\/\127]', ESCAPES) .. '"'
end

-- How long the array is that `value` is; nil if it is an object. 0: it is empty.
local function array_length(settings, value)
  local largest, count = 0, 0
  for key in next, value do
    if type(key) == "number" and key > 0 and floor(key) == key then
      if key > largest then
        largest = key
      end
      count = count + 1
    else
      return nil
    end
  end
  local ratio = settings.sparse_ratio
  if ratio > 0 and largest > count * ratio and largest > settings.sparse_safe then
    if not settings.sparse_convert then
      fail("Cannot serialise table: excessively sparse array")
    end
    return nil
  end
  return largest
end

local function number_text(settings, number)
  if number ~= number or number == huge or number == -huge then
    if settings.encode_invalid == "off" then
      fail("Cannot serialise number: must not be NaN or Inf")
    elseif settings.encode_invalid == "null" then
      return "null"
    end
    return number ~= number and "nan" or number > 0 and "inf" or "-inf"
  end
  return format(settings.number_format, number)
end

local add

local function add_object(settings, parts, n, value, depth)
  n = n + 1
  parts[n] = "{"
  local first = true
  for key, item in next, value do
    local kind = type(key)
    if kind == "string" then
      key = quoted(key)
    elseif kind == "number" then
      key = '"' .. number_text(settings, key) .. '"'
    else
      fail("Cannot serialise %s: table key must be a number or string", kind)
    end
    parts[n + 1] = first and key or "," .. key
    parts[n + 2] = ":"
    n = add(settings, parts, n + 2, item, depth)
    first = false
  end
  parts[n + 1] = "}"
  return n + 1
end

local function add_array(settings, parts, n, value, length, depth)
  n = n + 1
  parts[n] = "["
  for i = 1, length do
    if i > 1 then
      n = n + 1
      parts[n] = ","
    end
    n = add(settings, parts, n, value[i], depth)
  end
  parts[n + 1] = "]"
  return n + 1
end

function add(settings, parts, n, value, depth)
  local kind = type(value)
  if kind == "string" then
    parts[n + 1] = quoted(value)
  elseif kind == "number" then
    parts[n + 1] = number_text(settings, value)
  elseif kind == "boolean" then
    parts[n + 1] = value and "true" or "false"
  elseif kind == "nil" or value == null then
    parts[n + 1] = "null"
  elseif kind == "table" then
    depth = depth + 1
    if depth > settings.encode_depth then
      fail("Cannot serialise, excessive nesting (%d)", depth)
    end
    value = protected[value] or value
    local length = array_length(settings, value)
    if length and length > 0 then
      return add_array(settings, parts, n, value, length, depth)
    end
    return add_object(settings, parts, n, value, depth)
  else
    fail("Cannot serialise %s: type not supported", kind)
  end
  return n + 1
end

-- Reading. One text at a time: nothing else runs meanwhile.

local text, at, settings, depth

-- Raise what is said when something else than `expected` stands at position `index`.
local function unexpected(expected, found, index)
  fail("Expected %s but found %s at character %d", expected, found, index)
end

local TOKENS = { ["{"] = "T_OBJ_BEGIN", ["}"] = "T_OBJ_END", ["["] = "T_ARR_BEGIN", ["]"] = "T_ARR_END",
  [","] = "T_COMMA", [":"] = "T_COLON", [""] = "T_END", ["\0"] = "T_END" }

local function skip_space()
  at = find(text, "[^ \t\r\n]", at) or #text + 1
  return sub(text, at, at)
end

local function utf8(code)
  if code < 0x80 then
    return char(code)
  elseif code < 0x800 then
    return char(0xC0 + floor(code / 64), 0x80 + code % 64)
  elseif code < 0x10000 then
    return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
  end
  return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64, 0x80 + floor(code / 64) % 64,
    0x80 + code % 64)
end

local function code_unit(position)
  local _, _, digits = find(text, "^(%x%x%x%x)", position)
  return digits and tonumber(digits, 16)
end

-- Return the character that the escape \uXXXX at `position` stands for, and where it ends; or nil.
local function unicode_escape(position)
  local code = code_unit(position + 2)
  if code == nil or (code >= 0xDC00 and code < 0xE000) then
    return nil
  end
  if code < 0xD800 or code >= 0xDC00 then
    return utf8(code), position + 6
  end
  local second = find(text, "^\\u", position + 6) and code_unit(position + 8)
  if not second or second < 0xDC00 or second >= 0xE000 then
    return nil
  end
  return utf8(0x10000 + (code - 0xD800) * 1024 + second - 0xDC00), position + 12
end

-- Return the string that begins after `at`; or nil and what is wrong with it, and `at` is where.
local function read_string()
  local _, stop, plain = find(text, '^"([^"\\%z]*)"', at)
  if stop then
    at = stop + 1
    return plain
  end
  local parts, n = {}, 0
  at = at + 1
  while true do
    local _, last, piece = find(text, '^([^"\\%z]*)', at)
    n = n + 1
    parts[n] = piece
    at = last + 1
    local c = sub(text, at, at)
    if c == '"' then
      at = at + 1
      return concat(parts)
    elseif c ~= "\\" then
      return nil, "unexpected end of string"
    end
    c = sub(text, at + 1, at + 1)
    n = n + 1
    if c == "u" then
      local escaped, stop_at = unicode_escape(at)
      if escaped == nil then
        return nil, "invalid unicode escape code"
      end
      parts[n], at = escaped, stop_at
    else
      local escaped = UNESCAPES[c]
      if escaped == nil then
        return nil, "invalid escape code"
      end
      parts[n] = escaped
      at = at + 2
    end
  end
end

-- Return the number at `at` as C's strtod reads it, or nil.
local function read_number()
  local _, stop = find(text, "^[+-]?%d+%.?%d*", at)
  if not stop then
    _, stop = find(text, "^[+-]?%.%d+", at)
  end
  if find(text, "^[+-]?0[xX]%x", at) then
    _, stop = find(text, "^[+-]?0[xX]%x+", at)
    local _, fraction = find(text, "^%.%x*", stop + 1)
    stop = fraction or stop
    local _, power = find(text, "^[pP][+-]?%d+", stop + 1)
    stop = power or stop
  elseif stop then
    local _, power = find(text, "^[eE][+-]?%d+", stop + 1)
    stop = power or stop
  else
    local word = lower(sub(text, at, at + 9))
    _, stop = find(word, "^[+-]?infinity")
    if not stop then
      _, stop = find(word, "^[+-]?inf")
    end
    if not stop then
      _, stop = find(lower(sub(text, at)), "^[+-]?nan%([%w_]*%)")
    end
    if not stop then
      _, stop = find(word, "^[+-]?nan")
    end
    if not stop then
      return nil
    end
    stop = at + stop - 1
  end
  local digits = sub(text, at, stop)
  local number = tonumber(gsub(digits, "^%+", ""), 10) or tonumber(digits)
  if number ~= nil then
    at = stop + 1
  end
  return number
end

-- Tell whether a number stands at `at` that JSON does not have.
local function is_invalid_number()
  if find(text, "^%+", at) or find(text, "^%-?0[xX%d]", at) then
    return true
  end
  local word = lower(sub(text, at, at + 3))
  return find(word, "^%-?inf") ~= nil or find(word, "^%-?nan") ~= nil
end

local function descend()
  depth = depth + 1
  if depth > settings.decode_depth then
    fail("Found too many nested data structures (%d) at character %d", depth, at - 1)
  end
end

local read_value

local function read_key()
  local c = skip_space()
  local index = at
  if c == '"' then
    local key, problem = read_string()
    if key ~= nil then
      return key
    end
    unexpected("object key string", problem, at)
  end
  local _, found = read_value(true)
  unexpected("object key string", found, at > index and found ~= "invalid token" and index or at)
end

-- Pass over what follows an element: whether it ends what the element is in, or is the comma before the next one.
local function is_end(closing, expected)
  local c = skip_space()
  if c == closing then
    at = at + 1
    depth = depth - 1
    return true
  end
  if c ~= "," then
    local index = at
    local _, found, where = read_value(true)
    unexpected(expected, found, where or index)
  end
  at = at + 1
  return false
end

local function read_object()
  at = at + 1
  descend()
  local object = {}
  if skip_space() == "}" then
    at = at + 1
    depth = depth - 1
    return object
  end
  while true do
    local key = read_key()
    if skip_space() ~= ":" then
      local index = at
      local _, found = read_value(true)
      unexpected("colon", found, index)
    end
    at = at + 1
    skip_space()
    object[key] = read_value()
    if is_end("}", "comma or object end") then
      return object
    end
  end
end

local function read_array()
  at = at + 1
  descend()
  local array, n = {}, 0
  if skip_space() == "]" then
    at = at + 1
    depth = depth - 1
    return array
  end
  while true do
    skip_space()
    n = n + 1
    array[n] = read_value()
    if is_end("]", "comma or array end") then
      return array
    end
  end
end

-- Read a token that is no structure. Returns its value and its name; or nil, and what is wrong, and where.
local function read_token(c)
  if c == '"' then
    local value, problem = read_string()
    if value == nil then
      return nil, problem, at
    end
    return value, "T_STRING"
  elseif find(c, "[%d-]") then
    if not settings.decode_invalid and is_invalid_number() then
      return nil, "invalid number", at
    end
    local number = read_number()
    if number == nil then
      return nil, "invalid number", at
    end
    return number, "T_NUMBER"
  elseif c == "t" and find(text, "^true", at) then
    at = at + 4
    return true, "T_BOOLEAN"
  elseif c == "f" and find(text, "^false", at) then
    at = at + 5
    return false, "T_BOOLEAN"
  elseif c == "n" and find(text, "^null", at) then
    at = at + 4
    return null, "T_NULL"
  elseif find(c, "[+iInN]") and settings.decode_invalid and is_invalid_number() then
    local number = read_number()
    if number == nil then
      return nil, "invalid number", at
    end
    return number, "T_NUMBER"
  end
  return nil, TOKENS[c] or "invalid token", at
end

-- Read the value at `at`. With `named` no error is raised: it is wanted what stands there.
function read_value(named)
  local c = sub(text, at, at)
  if not named then
    if c == "{" then
      return read_object()
    elseif c == "[" then
      return read_array()
    end
  end
  local value, name, where = read_token(c)
  if value == nil and not named then
    unexpected("value", name, where)
  end
  return value, name, where
end

local function decode_text(own_settings, source)
  text, at, settings, depth = source, 1, own_settings, 0
  if #text >= 2 and (byte(text, 1) == 0 or byte(text, 2) == 0) then
    fail("JSON parser does not support UTF-16 or UTF-32")
  end
  skip_space()
  local value = read_value()
  local c = skip_space()
  if TOKENS[c] ~= "T_END" then
    local index = at
    local _, found, where = read_value(true)
    unexpected("the end", found, where or index)
  end
  return value
end

-- Settings

local SWITCHES = { [true] = "on", [false] = "off", on = "on", off = "off", null = "null" }

-- All of them are the first argument to the messages, wherever they stand.
local function integer_option(name, value, low, high)
  local number = tonumber(value)
  if number == nil or type(value) == "boolean" then
    error(format("bad argument #1 to '%s' (number expected, got %s)", name, type(value)), 3)
  end
  number = number < 0 and -floor(-number) or floor(number)
  if number < low or number > high then
    error(format("bad argument #1 to '%s' (expected integer between %d and %d)", name, low, high), 3)
  end
  return number
end

local function switch_option(name, value, has_null)
  local choice = SWITCHES[value]
  if choice == nil or (choice == "null" and not has_null) then
    if type(value) == "string" or type(value) == "number" then
      error(format("bad argument #1 to '%s' (invalid option '%s')", name, value), 3)
    end
    error(format("bad argument #1 to '%s' (string expected, got %s)", name, type(value)), 3)
  end
  return choice
end

local function few_arguments(name, most, n)
  if n > most then
    error(format("bad argument #%d to '%s' (found too many arguments)", most + 1, name), 3)
  end
end

local function shown_switch(choice)
  if choice == "null" then
    return "null"
  end
  return choice == "on"
end

local INT_MAX = 2147483647

local function new_module()
  local own = { sparse_convert = false, sparse_ratio = 2, sparse_safe = 10, encode_depth = 1000,
    decode_depth = 1000, encode_invalid = "off", decode_invalid = true, keep_buffer = true, precision = 14,
    number_format = "%.14g" }
  local module = { _NAME = "cjson", _VERSION = "2.1.0", null = null }

  function module.encode(...)
    if select("#", ...) ~= 1 then
      error("bad argument #1 to 'encode' (expected 1 argument)", 2)
    end
    local parts = {}
    local ok, n = raw_pcall(add, own, parts, 0, (...), 0)
    if not ok then
      error(n, 2)
    end
    return concat(parts)
  end

  function module.decode(...)
    local source = ...
    if select("#", ...) ~= 1 then
      error("bad argument #1 to 'decode' (expected 1 argument)", 2)
    elseif type(source) == "number" then
      source = tostring(source)
    elseif type(source) ~= "string" then
      error(format("bad argument #1 to 'decode' (string expected, got %s)", type(source)), 2)
    end
    local ok, value = raw_pcall(decode_text, own, source)
    if not ok then
      error(value, 2)
    end
    return value
  end

  function module.encode_sparse_array(...)
    local name = "encode_sparse_array"
    few_arguments(name, 3, select("#", ...))
    local convert, ratio, safe = ...
    if convert ~= nil then
      own.sparse_convert = switch_option(name, convert) == "on"
    end
    if ratio ~= nil then
      own.sparse_ratio = integer_option(name, ratio, 0, INT_MAX)
    end
    if safe ~= nil then
      own.sparse_safe = integer_option(name, safe, 0, INT_MAX)
    end
    return own.sparse_convert, own.sparse_ratio, own.sparse_safe
  end

  local function integer_setting(name, field, low, high)
    module[name] = function(...)
      few_arguments(name, 1, select("#", ...))
      local value = ...
      if value ~= nil then
        own[field] = integer_option(name, value, low, high)
        own.number_format = "%." .. own.precision .. "g"
      end
      return own[field]
    end
  end
  integer_setting("encode_max_depth", "encode_depth", 1, INT_MAX)
  integer_setting("decode_max_depth", "decode_depth", 1, INT_MAX)
  integer_setting("encode_number_precision", "precision", 1, 14)

  function module.encode_keep_buffer(...)
    few_arguments("encode_keep_buffer", 1, select("#", ...))
    local value = ...
    if value ~= nil then
      own.keep_buffer = switch_option("encode_keep_buffer", value) == "on"
    end
    return own.keep_buffer
  end

  function module.encode_invalid_numbers(...)
    few_arguments("encode_invalid_numbers", 1, select("#", ...))
    local value = ...
    if value ~= nil then
      own.encode_invalid = switch_option("encode_invalid_numbers", value, true)
    end
    return shown_switch(own.encode_invalid)
  end

  function module.decode_invalid_numbers(...)
    few_arguments("decode_invalid_numbers", 1, select("#", ...))
    local value = ...
    if value ~= nil then
      own.decode_invalid = switch_option("decode_invalid_numbers", value) == "on"
    end
    return own.decode_invalid
  end

  module.new = new_module
  return module
end

S.cjson = S.protect(new_module())
