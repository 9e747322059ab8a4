-- math.random and math.randomseed: the 48-bit generator of POSIX, as in Redis. With the same seed a script draws the
-- same numbers wherever it runs.

local S = ...

local type, tonumber, select, error, floor, format = type, tonumber, select, error, math.floor, string.format

local HALF = 2 ^ 24
local LARGEST = 2147483647
local SEED_LOW = 0x330E
-- The multiplier 0x5DEECE66D and the increment, in halves of 24 bits.
local FACTOR_HIGH, FACTOR_LOW, STEP = 0x5DE, 0xECE66D, 11

-- What POSIX's begins with, if nobody gives it a seed.
local high, low = 0x1234AB, 0xCD330E

local function seed(n)
  n = n % 4294967296
  high = floor(n / 256)
  low = n % 256 * 65536 + SEED_LOW
end

local function draw()
  local product = low * FACTOR_LOW + STEP
  local carry = floor(product / HALF)
  high = (high * FACTOR_LOW + low * FACTOR_HIGH + carry) % HALF
  low = product % HALF
  return high * 128 + floor(low / 131072)
end

local function number(name, position, n, value)
  local result = tonumber(value)
  if result == nil or (type(value) ~= "number" and type(value) ~= "string") then
    local got = n < position and "no value" or type(value)
    error(format("bad argument #%d to '%s' (number expected, got %s)", position, name, got), 3)
  end
  return result
end

-- As C converts to int: what is beyond has the smallest.
local function to_int(x)
  x = x < 0 and -floor(-x) or floor(x)
  if x ~= x or x > 9223372036854775807 or x < -9223372036854775808 then
    return 0
  end
  x = x % 4294967296
  return x >= 2147483648 and x - 4294967296 or x
end

function S.random(...)
  local n = select("#", ...)
  local r = draw() % LARGEST / LARGEST
  if n == 0 then
    return r
  end
  local first, second = ...
  if n == 1 then
    local upper = to_int(number("random", 1, n, first))
    if upper < 1 then
      error("bad argument #1 to 'random' (interval is empty)", 2)
    end
    return floor(r * upper) + 1
  elseif n == 2 then
    local lower, upper = to_int(number("random", 1, n, first)), to_int(number("random", 2, n, second))
    if lower > upper then
      error("bad argument #2 to 'random' (interval is empty)", 2)
    end
    return floor(r * (upper - lower + 1)) + lower
  end
  error("wrong number of arguments", 2)
end

function S.randomseed(...)
  seed(to_int(number("randomseed", 1, select("#", ...), (...))))
end
