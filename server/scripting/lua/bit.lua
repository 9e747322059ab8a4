-- bit: BitOp's operations on 32-bit integers. They are done in Python, whose integers are exact.

local S, host = ...

local type, select, tonumber, error = type, select, tonumber, error
local format, ask = string.format, S.ask

local function check(name, position, n, value)
  local number = tonumber(value)
  if number == nil or (type(value) ~= "number" and type(value) ~= "string") then
    local got = position > n and "no value" or type(value)
    error(format("bad argument #%d to '%s' (number expected, got %s)", position, name, got), 3)
  end
  return number
end

local bit = {}

for _, name in next, { "tobit", "bnot", "bswap" } do
  local f = host["bit_" .. name]
  bit[name] = function(...)
    return (ask(f, check(name, 1, select("#", ...), (...))))
  end
end

for _, name in next, { "band", "bor", "bxor" } do
  local f = host["bit_" .. name]
  bit[name] = function(...)
    local n = select("#", ...)
    local result = ask(host.bit_tobit, check(name, 1, n, (...)))
    for i = 2, n do
      result = ask(f, result, check(name, i, n, (select(i, ...))))
    end
    return result
  end
end

for _, name in next, { "lshift", "rshift", "arshift", "rol", "ror" } do
  local f = host["bit_" .. name]
  bit[name] = function(...)
    local n = select("#", ...)
    local x, count = ...
    return (ask(f, check(name, 1, n, x), check(name, 2, n, count)))
  end
end

function bit.tohex(...)
  local n = select("#", ...)
  local x, digits = ...
  x = check("tohex", 1, n, x)
  return (ask(host.bit_tohex, x, digits == nil and n < 2 and 8 or check("tohex", 2, n, digits)))
end

S.bit = S.protect(bit)
