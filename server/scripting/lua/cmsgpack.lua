-- cmsgpack: MessagePack as lua-cmsgpack 0.4.0 has it.
--
-- Written is the shortest form: integers, floats that lose nothing, arrays where the keys are 1..n, maps else.
-- What lies deeper than 16 tables, and what MessagePack has no word for, becomes nil.

local S, host = ...

local type, select, next, error, tostring, tonumber = type, select, next, error, tostring, tonumber
local raw_pcall, unpack = pcall, unpack
local format, byte, char, sub = string.format, string.byte, string.char, string.sub
local concat, floor = table.concat, math.floor
local protected, ask = S.protected, S.ask

local NESTING_MAX = 16
local HALF = 4294967296
local MISSING = "Missing bytes in input."
local BAD = "Bad data format in input."
local NIL_KEY = "table index is nil"
local NAN_KEY = "table index is NaN"
local WITHOUT_LIMIT = 1e15

local function big_endian(value, size)
  if size == 1 then
    return char(value % 256)
  elseif size == 2 then
    return char(floor(value / 256) % 256, value % 256)
  elseif size == 4 then
    return char(floor(value / 16777216) % 256, floor(value / 65536) % 256, floor(value / 256) % 256, value % 256)
  end
  return big_endian(floor(value / HALF) % HALF, 4) .. big_endian(value % HALF, 4)
end

local function number_bytes(value)
  if value ~= floor(value) or value >= 9223372036854775808 or value < -9223372036854775808 then
    local bytes = ask(host.pack_float, value)
    if ask(host.unpack_float, bytes) == value then
      return "\202" .. bytes:reverse()
    end
    return "\203" .. ask(host.pack_double, value):reverse()
  elseif value >= 0 then
    if value <= 127 then
      return char(value)
    elseif value <= 255 then
      return "\204" .. char(value)
    elseif value <= 65535 then
      return "\205" .. big_endian(value, 2)
    elseif value < HALF then
      return "\206" .. big_endian(value, 4)
    end
    return "\207" .. big_endian(value, 8)
  elseif value >= -32 then
    return char(256 + value)
  elseif value >= -128 then
    return "\208" .. char(256 + value)
  elseif value >= -32768 then
    return "\209" .. big_endian(value % 65536, 2)
  elseif value >= -2147483648 then
    return "\210" .. big_endian(value % HALF, 4)
  end
  return "\211" .. big_endian(value, 8)
end

local function head(size, short, short_max, eight, sixteen, thirty_two)
  if size <= short_max then
    return char(short + size)
  elseif eight and size <= 255 then
    return char(eight, size)
  elseif size <= 65535 then
    return char(sixteen) .. big_endian(size, 2)
  end
  return char(thirty_two) .. big_endian(size, 4)
end

-- The number of elements, and whether they are an array: the keys are 1..n.
local function shape(value)
  local count, largest, is_array = 0, 0, true
  for key in next, value do
    count = count + 1
    if type(key) ~= "number" or key <= 0 or floor(key) ~= key then
      is_array = false
    elseif key > largest then
      largest = key
    end
  end
  return count, is_array and largest == count
end

local function add(parts, n, value, level)
  local kind = type(value)
  if kind == "string" then
    parts[n + 1] = head(#value, 160, 31, 217, 218, 219)
    parts[n + 2] = value
    return n + 2
  elseif kind == "number" then
    parts[n + 1] = number_bytes(value)
  elseif kind == "boolean" then
    parts[n + 1] = value and "\195" or "\194"
  elseif kind == "table" and level < NESTING_MAX then
    value = protected[value] or value
    local count, is_array = shape(value)
    n = n + 1
    if is_array then
      parts[n] = head(count, 144, 15, nil, 220, 221)
      for i = 1, count do
        n = add(parts, n, value[i], level + 1)
      end
    else
      parts[n] = head(count, 128, 15, nil, 222, 223)
      for key, item in next, value do
        n = add(parts, n, key, level + 1)
        n = add(parts, n, item, level + 1)
      end
    end
    return n
  else
    parts[n + 1] = "\192"
  end
  return n + 1
end

-- Reading: one string at a time, from `at` on.

local data, at

local function take(size)
  if #data - at + 1 < size then
    error(MISSING, 0)
  end
  local bytes = sub(data, at, at + size - 1)
  at = at + size
  return bytes
end

local function unsigned(size)
  local bytes = take(size)
  local value = 0
  if size == 8 then
    local high = 0
    for i = 1, 4 do
      high = high * 256 + byte(bytes, i)
      value = value * 256 + byte(bytes, i + 4)
    end
    return high * HALF + value, high, value
  end
  for i = 1, size do
    value = value * 256 + byte(bytes, i)
  end
  return value
end

local function signed(size)
  local value, high, low = unsigned(size)
  if size == 8 then
    return high >= 2147483648 and (high - HALF) * HALF + low or value
  end
  local limit = 256 ^ size
  return value >= limit / 2 and value - limit or value
end

local read

local function read_array(size)
  local array = {}
  for i = 1, size do
    array[i] = read()
  end
  return array
end

local function read_map(size)
  local map = {}
  for _ = 1, size do
    local key = read()
    local value = read()
    if key == nil then
      error(NIL_KEY, 0)
    elseif key ~= key then
      error(NAN_KEY, 0)
    end
    map[key] = value
  end
  return map
end

local READERS = {
  [192] = function() return nil end,
  [194] = function() return false end,
  [195] = function() return true end,
  [202] = function() return ask(host.unpack_float, take(4):reverse()) end,
  [203] = function() return ask(host.unpack_double, take(8):reverse()) end,
  [204] = function() return unsigned(1) end,
  [205] = function() return unsigned(2) end,
  [206] = function() return unsigned(4) end,
  [207] = function() return signed(8) end, -- as the original reads it, into an integer with a sign
  [208] = function() return signed(1) end,
  [209] = function() return signed(2) end,
  [210] = function() return signed(4) end,
  [211] = function() return signed(8) end,
  [217] = function() return take(unsigned(1)) end,
  [218] = function() return take(unsigned(2)) end,
  [219] = function() return take(unsigned(4)) end,
  [220] = function() return read_array(unsigned(2)) end,
  [221] = function() return read_array(unsigned(4)) end,
  [222] = function() return read_map(unsigned(2)) end,
  [223] = function() return read_map(unsigned(4)) end,
}

function read()
  local first = byte(data, at)
  if first == nil then
    error(MISSING, 0)
  end
  at = at + 1
  if first < 128 then
    return first
  elseif first >= 224 then
    return first - 256
  elseif first < 144 then
    return read_map(first - 128)
  elseif first < 160 then
    return read_array(first - 144)
  elseif first < 192 then
    return take(first - 160)
  end
  local reader = READERS[first]
  if reader == nil then
    error(BAD, 0)
  end
  return reader()
end

local function check_string(name, n, value)
  if type(value) == "number" then
    return tostring(value)
  elseif type(value) ~= "string" then
    local got = n < 1 and "no value" or type(value)
    error(format("bad argument #1 to '%s' (string expected, got %s)", name, got), 3)
  end
  return value
end

local function check_integer(name, position, n, value, default)
  if value == nil and default ~= nil then
    return default
  end
  local number = tonumber(value)
  if number == nil or (type(value) ~= "number" and type(value) ~= "string") then
    local got = n < position and "no value" or type(value)
    error(format("bad argument #%d to '%s' (number expected, got %s)", position, name, got), 3)
  end
  return number < 0 and -floor(-number) or floor(number)
end

-- Read `limit` values at most, from `offset` on. Returns them and their number, and where the next one begins.
local function read_many(source, limit, offset)
  data, at = source, offset + 1
  local values, count = {}, 0
  while at <= #data and count < limit do
    count = count + 1
    values[count] = read()
  end
  return values, count, at > #data and -1 or at - 1
end

local function unpack_some(source, limit, offset)
  if offset < 0 or limit < 0 then
    error(format("Invalid request to unpack with offset of %d and limit of %d.", offset, #source), 3)
  elseif offset > #source then
    error(format("Start offset %d greater than input length %d.", offset, #source), 3)
  end
  local ok, values, count, stop = raw_pcall(read_many, source, limit, offset)
  if not ok then
    error(values, values == NIL_KEY and 0 or values == NAN_KEY and 0 or 3)
  end
  return values, count, stop
end

local cmsgpack = {
  _NAME = "cmsgpack",
  _VERSION = "lua-cmsgpack 0.4.0",
  _COPYRIGHT = "Copyright (C) 2012, Salvatore Sanfilippo",
  _DESCRIPTION = "MessagePack C implementation for Lua",
}

function cmsgpack.pack(...)
  local n = select("#", ...)
  if n == 0 then
    error("bad argument #0 to 'pack' (MessagePack pack needs input.)", 2)
  end
  local parts, used = {}, 0
  for i = 1, n do
    local ok, result = raw_pcall(add, parts, used, (select(i, ...)), 0)
    if not ok then
      error(result, 2)
    end
    used = result
  end
  return concat(parts)
end

function cmsgpack.unpack(...)
  local values, count = unpack_some(check_string("unpack", select("#", ...), (...)), WITHOUT_LIMIT, 0)
  return unpack(values, 1, count)
end

function cmsgpack.unpack_one(...)
  local n = select("#", ...)
  local source, offset = ...
  source = check_string("unpack_one", n, source)
  offset = check_integer("unpack_one", 2, n, offset, 0)
  local values, count, stop = unpack_some(source, 1, offset)
  return stop, unpack(values, 1, count)
end

function cmsgpack.unpack_limit(...)
  local n = select("#", ...)
  local source, limit, offset = ...
  limit = check_integer("unpack_limit", 2, n, limit)
  offset = check_integer("unpack_limit", 3, n, offset, 0)
  source = check_string("unpack_limit", n, source)
  if limit == 0 and offset == 0 then
    local all, size = unpack_some(source, WITHOUT_LIMIT, 0)
    return unpack(all, 1, size)
  end
  local values, count, stop = unpack_some(source, limit, offset)
  return stop, unpack(values, 1, count)
end

S.cmsgpack = S.protect(cmsgpack)
