-- struct: values as C lays them out, in strings.
--
--   > <     big and little endian        !n   alignment, n a power of 2        x     a byte of padding
--   b h l T signed, in capitals unsigned of 1, 2, 8, 8 bytes;  i I with their size, 4 if not said
--   f d     float, double                cn   n bytes, c0: as many as the number before says      s  ends with \0

local S, host = ...

local type, select, tonumber, tostring, error, raw_pcall, unpack = type, select, tonumber, tostring, error, pcall,
  unpack
local format, find, sub, byte, char, rep = string.format, string.find, string.sub, string.byte, string.char,
  string.rep
local concat, floor, frexp, ask = table.concat, math.floor, math.frexp, S.ask

local INTEGER_SIZE_MAX = 32
local ALIGNMENT_MAX = 8
local INT_MAX = 2147483647
local HALF = 4294967296

local SIZES = { b = 1, B = 1, h = 2, H = 2, l = 8, L = 8, T = 8, f = 4, d = 8, x = 1, s = 0 }
local INTEGERS = "[bBhHlLTiI]"

local function argument_fault(position, name, message)
  error(format("bad argument #%d to '%s' (%s)", position, name, message), 0)
end

-- The bits of `value` that are set in `mask`, which is small. For powers of 2, less one, it is a remainder; sizes
-- that are none are padded oddly, but as in the original.
local function bits_of(value, mask)
  local found, bit = 0, 1
  while bit <= mask do
    if floor(value / bit) % 2 == 1 and floor(mask / bit) % 2 == 1 then
      found = found + bit
    end
    bit = bit * 2
  end
  return found
end

-- Return a function that gives the next option of `text` in turn: its letter, its size, and the padding before
-- it when `position` bytes precede it; nil at the end. Where there are data, they must reach that far.
local function reader(name, text, data_size)
  local at, alignment, is_little = 1, 1, true

  local function number(default)
    local _, stop, digits = find(text, "^(%d+)", at)
    if not stop then
      return default
    end
    at = stop + 1
    local value = tonumber(digits)
    if value > INT_MAX then
      error("integral size overflow", 0)
    end
    return value
  end

  return function(position)
    while at <= #text do
      local option = sub(text, at, at)
      at = at + 1
      local size = SIZES[option]
      if option == "c" then
        size = number(1)
      elseif option == "i" or option == "I" then
        size = number(4)
        if size > INTEGER_SIZE_MAX then
          error(format("integral size %d is larger than limit of %d", size, INTEGER_SIZE_MAX), 0)
        end
      end
      if data_size and position > data_size then
        argument_fault(2, name, "data string too short")
      end
      if size ~= nil then
        local padding = 0
        if size > 0 and option ~= "c" then
          local unit = size < alignment and size or alignment
          padding = bits_of(unit - bits_of(position, unit - 1), unit - 1)
        end
        return option, size, padding, is_little
      elseif option == ">" then
        is_little = false
      elseif option == "<" then
        is_little = true
      elseif option == "!" then
        alignment = number(ALIGNMENT_MAX)
        if alignment == 0 or frexp(alignment) ~= 0.5 then
          error(format("alignment %d is not a power of 2", alignment), 0)
        end
      elseif option ~= " " and not (name == "size" and find(option, "%w")) then
        argument_fault(1, name, format("invalid format option '%s'", option))
      end
    end
    return nil
  end
end

local function check_number(name, position, n, value)
  local result = tonumber(value)
  if result == nil or (type(value) ~= "number" and type(value) ~= "string") then
    local got = position > n and name ~= "pack" and "no value" or type(value)
    argument_fault(position, name, format("number expected, got %s", got))
  end
  return result
end

local function check_string(name, position, n, value)
  local kind = type(value)
  if kind == "number" then
    return tostring(value)
  elseif kind ~= "string" then
    local got = position > n and (name ~= "pack" or n == 0) and "no value" or kind
    argument_fault(position, name, format("string expected, got %s", got))
  end
  return value
end

local function order(bytes, is_little)
  return is_little and bytes or bytes:reverse()
end

local function integer_bytes(value, size, is_little)
  value = value < 0 and -floor(-value) or floor(value)
  if value >= 18446744073709551616 then
    value = 0 -- what C makes of it on the machines this was compared on
  elseif value ~= value or value < -9223372036854775808 then
    value = 9223372036854775808
  end
  local low, high = value % HALF, floor(value / HALF) % HALF
  local bytes = char(low % 256, floor(low / 256) % 256, floor(low / 65536) % 256, floor(low / 16777216))
    .. char(high % 256, floor(high / 256) % 256, floor(high / 65536) % 256, floor(high / 16777216))
  bytes = size <= 8 and sub(bytes, 1, size) or bytes .. rep("\0", size - 8)
  return order(bytes, is_little)
end

local function integer_of(bytes, is_signed, is_little)
  bytes = order(bytes, is_little)
  local size = #bytes < 8 and #bytes or 8
  local low, high = 0, 0
  for i = size, 1, -1 do
    if i > 4 then
      high = high * 256 + byte(bytes, i)
    else
      low = low * 256 + byte(bytes, i)
    end
  end
  if not is_signed then
    return high * HALF + low
  end
  -- The sign is at bit 8 * size - 1, which C takes modulo 64 when there are more than 8 bytes.
  local sign = (8 * #bytes - 1) % 64
  if sign >= 32 then
    local limit = 2 ^ (sign - 32)
    if high >= limit then
      high = high % limit - limit
    end
  elseif high > 0 or low >= 2 ^ sign then
    return low % 2 ^ sign - 2 ^ sign
  end
  return high * HALF + low
end

local function float_bytes(is_single, number)
  if number == 0 and 1 / number < 0 then -- to Python zero is an integer
    return is_single and "\0\0\0\128" or "\0\0\0\0\0\0\0\128"
  end
  return ask(is_single and host.pack_float or host.pack_double, number)
end

local function pack(...)
  local n = select("#", ...)
  local text = check_string("pack", 1, n, (...))
  local parts, used, argument, position = {}, 0, 1, 0
  local read = reader("pack", text)
  while true do
    local option, size, padding, is_little = read(position)
    if option == nil then
      return concat(parts)
    end
    local piece
    if option == "x" then
      piece = "\0"
    else
      argument = argument + 1
      local value = (select(argument, ...))
      if find(option, INTEGERS) then
        piece = integer_bytes(check_number("pack", argument, n, value), size, is_little)
      elseif option == "f" or option == "d" then
        local number = check_number("pack", argument, n, value)
        piece = order(float_bytes(option == "f", number), is_little)
      else
        value = check_string("pack", argument, n, value)
        size = size == 0 and #value or size
        if #value < size then
          argument_fault(argument + 1, "pack", "string too short") -- it counts one too far
        end
        piece = sub(value, 1, size) .. (option == "s" and "\0" or "")
      end
    end
    used = used + 1
    parts[used] = rep("\0", padding) .. piece
    position = position + padding + #piece
  end
end

local RESULTS_MAX = 7900

local function unpack_values(...)
  local n = select("#", ...)
  local text, data, start = ...
  text = check_string("unpack", 1, n, text)
  data = check_string("unpack", 2, n, data)
  local position = start == nil and 0 or floor(check_number("unpack", 3, n, start)) - 1
  if position == -1 then
    argument_fault(3, "unpack", "offset must be 1 or greater")
  elseif position < 0 then
    argument_fault(2, "unpack", "data string too short")
  end
  local values, count = {}, 0
  local read = reader("unpack", text, #data)
  while true do
    local option, size, padding, is_little = read(position)
    if option == nil then
      values[count + 1] = position + 1
      return values, count + 1
    end
    position = position + padding
    if position + size > #data then
      argument_fault(2, "unpack", "data string too short")
    elseif count >= RESULTS_MAX then
      error("stack overflow (too many results)", 0)
    end
    local value
    if find(option, INTEGERS) then
      local is_signed = find(option, "%l") ~= nil
      value = integer_of(sub(data, position + 1, position + size), is_signed, is_little)
    elseif option == "f" or option == "d" then
      local bytes = order(sub(data, position + 1, position + size), is_little)
      value = ask(option == "f" and host.unpack_float or host.unpack_double, bytes)
    elseif option == "c" then
      if size == 0 then
        size = count > 0 and tonumber(values[count])
        if not size then
          error("format 'c0' needs a previous size", 0)
        end
        values[count] = nil
        count = count - 1
        if size < 0 or position + size > #data then
          argument_fault(2, "unpack", "data string too short")
        end
      end
      value = sub(data, position + 1, position + size)
    elseif option == "s" then
      local stop = find(data, "%z", position + 1)
      if not stop then
        error("unfinished string in data", 0)
      end
      value = sub(data, position + 1, stop - 1)
      size = stop - position
    end
    position = position + size
    if option ~= "x" then
      count = count + 1
      values[count] = value
    end
  end
end

local function size_of(...)
  local text = check_string("size", 1, select("#", ...), (...))
  local position = 0
  local read = reader("size", text)
  while true do
    local option, size, padding = read(position)
    if option == nil then
      return position
    elseif option == "s" then
      argument_fault(1, "size", "option 's' has no fixed size")
    elseif option == "c" and size == 0 then
      argument_fault(1, "size", "option 'c0' has no fixed size")
    end
    position = position + padding + size
    if position > INT_MAX then
      argument_fault(1, "size", "option size overflow")
    end
  end
end

local struct = {}

function struct.pack(...)
  local ok, result = raw_pcall(pack, ...)
  if not ok then
    error(result, 2)
  end
  return result
end

function struct.unpack(...)
  local ok, values, count = raw_pcall(unpack_values, ...)
  if not ok then
    error(values, 2)
  end
  return unpack(values, 1, count)
end

function struct.size(...)
  local ok, result = raw_pcall(size_of, ...)
  if not ok then
    error(result, 2)
  end
  return result
end

S.struct = S.protect(struct)
