-- The world that scripts see: what of Lua they may use, and how it is kept from them to change it.
--
-- This and the other files here are trusted. A script reaches of them only the functions in its globals; what
-- these close over it cannot get at, as there is no `debug` and no `getfenv`. Nothing of Python is among the
-- values a script can hold: see redis.lua.
--
-- Tables that scripts share (the globals, `redis`, `string`, ...) are proxies: empty tables that look up in the
-- real one and refuse to be written to. Stock Lua has no read-only tables. Functions that would go round a
-- proxy's metatable are wrapped.
--
-- Errors that a wrapper raises name the line of the script (level 2), as if the wrapper were C. This file is loaded
-- without tail calls (bytecode.py), so that a wrapper's frame is there to tell how the script has called it.

local S, host = ...

S.TRUSTED = "=lamina"
local READONLY = "Attempt to modify a readonly table"

local error, type, select, tostring = error, type, select, tostring
local raw_pairs, raw_next, raw_pcall, raw_xpcall, raw_rawget, raw_rawset = pairs, next, pcall, xpcall, rawget, rawset
local raw_setmetatable, raw_getmetatable, setfenv = setmetatable, getmetatable, setfenv
local raw_loadstring, raw_insert, raw_collect = loadstring, table.insert, collectgarbage
local byte, find, match, gsub, format, concat =
  string.byte, string.find, string.match, string.gsub, string.format, table.concat
local getinfo, sethook = debug.getinfo, debug.sethook

local count_memory, soft_kb = collectgarbage, host.soft_limit_kb
local OUT_OF_MEMORY = "not enough memory"
local INTERNAL = "ERR internal error: the server's log has the details"
S.OUT_OF_MEMORY, S.INTERNAL = OUT_OF_MEMORY, INTERNAL

-- To be called before Python is: see redis.lua. Lua takes its time to collect garbage, so that is done here first.
local function enter()
  if count_memory("count") > soft_kb then
    count_memory("collect")
    if count_memory("count") > soft_kb then
      error(OUT_OF_MEMORY, 0)
    end
  end
end
S.enter = enter

-- Call a function of the host that returns one value.
function S.ask(f, ...)
  enter()
  local ok, result = raw_pcall(f, ...)
  if not ok then
    error(type(result) == "string" and result or INTERNAL, 0)
  end
  return result
end

-- proxy -> the table behind it
local protected = {}
S.protected = protected

local function refuse()
  error(READONLY, 2)
end

-- Return a proxy of `real`. `changing` is the metatable to be kept, if what lies behind is to change.
local function protect(real, changing)
  local meta = changing or {}
  meta.__index = real
  meta.__newindex = refuse
  meta.__metatable = false
  local proxy = raw_setmetatable({}, meta)
  protected[proxy] = real
  return proxy
end
S.protect = protect

-- What functions of C say of how they have been called: Lua puts the caller's line before it. Other errors, such as
-- those of a function that they were given, pass as they are.
local COMPLAINTS = { "^bad argument #", "^malformed pattern", "^missing '%['", "^unbalanced pattern", "^unfinished capture",
  "^invalid pattern capture", "^invalid capture index", "^invalid replacement value", "^too many captures",
  "^cannot change a protected metatable", "^wrong number of arguments" }

local function is_complaint(message)
  if type(message) == "string" then
    for i = 1, #COMPLAINTS do
      if find(message, COMPLAINTS[i]) then
        return true
      end
    end
  end
  return false
end

-- Return results of a raw function called through pcall, or raise its error where the script called.
-- Called last by a wrapper that the script has called: level 2 is the wrapper, level 3 the script.
local function results(ok, ...)
  if ok then
    return ...
  end
  local message = ...
  if not is_complaint(message) then
    error(message, 0)
  end
  local number, rest = match(message, "^bad argument #(%d+) to '%?'(.*)$")
  if number ~= nil then
    local caller = getinfo(2, "n")
    local name = caller.name or "?"
    if caller.namewhat == "method" then -- then Lua does not count what stands before the colon
      number = number - 1
    end
    message = number == 0 and "calling '" .. name .. "' on bad self" .. rest
      or "bad argument #" .. number .. " to '" .. name .. "'" .. rest
  end
  error(message, 3)
end

local function bad_type(position, name, expected, n, value)
  local got = n < position and "no value" or type(value)
  error(format("bad argument #%d to '%s' (%s expected, got %s)", position, name, expected, got), 3)
end

local wrapped = {}
S.wrapped = wrapped

function wrapped.pairs(...)
  local t = ...
  if type(t) ~= "table" then
    bad_type(1, "pairs", "table", select("#", ...), t)
  end
  local real = protected[t]
  if real == nil then
    return raw_next, t, nil
  end
  -- The real table must not get into the script's hands as the state of its loop.
  return function(_, key) return raw_next(real, key) end, t, nil
end

local function after_first(_, ...)
  return ...
end

function wrapped.next(...)
  local real = protected[...]
  if real ~= nil then
    return results(raw_pcall(raw_next, real, after_first(...)))
  end
  return results(raw_pcall(raw_next, ...))
end

function wrapped.rawget(...)
  local real = protected[...]
  if real ~= nil then
    return results(raw_pcall(raw_rawget, real, after_first(...)))
  end
  return results(raw_pcall(raw_rawget, ...))
end

function wrapped.rawset(...)
  if protected[...] then
    error(READONLY, 0)
  end
  return results(raw_pcall(raw_rawset, ...))
end

function wrapped.setmetatable(...)
  if protected[...] then
    error(READONLY, 0)
  end
  return results(raw_pcall(raw_setmetatable, ...))
end

function wrapped.getmetatable(...)
  local t = ...
  if protected[t] then
    return S.shown_metatables[t]
  end
  if t == nil and select("#", ...) == 0 then
    error("bad argument #1 to 'getmetatable' (value expected)", 2)
  end
  return raw_getmetatable(t)
end
S.shown_metatables = {}

-- Errors of Lua's own limits. Where they are met, the hook cannot run either: a script that catches them, again and
-- again, would never be looked after. So that is done when they are caught.
local function is_limit(message)
  return type(message) == "string" and (message == OUT_OF_MEMORY or message == "error in error handling"
    or find(message, "stack overflow", 1, true) ~= nil)
end

local function looked_after(ok, ...)
  if not ok and is_limit((...)) then
    S.look_around((...))
  end
  return ok, ...
end

-- As Redis's: an error that is a table with `err` is given as that.
local function caught(ok, ...)
  if ok then
    return true, ...
  end
  local message = ...
  if is_limit(message) then
    S.look_around(message)
  end
  if type(message) == "table" and message.err ~= nil then
    message = message.err
  end
  return false, message
end

function wrapped.pcall(...)
  if select("#", ...) == 0 then
    return false, "attempt to call a boolean value"
  end
  return caught(raw_pcall(...))
end

-- A handler of errors is called where they are raised. That may be in the hook, which ends scripts; in there no
-- hook runs, so that nothing could end the handler.
function wrapped.xpcall(...)
  local f, handler = ...
  if select("#", ...) < 2 then
    error("bad argument #2 to 'xpcall' (value expected)", 2)
  elseif type(handler) ~= "function" then
    return looked_after(raw_xpcall(f, handler))
  end
  local is_handling = false
  return looked_after(raw_xpcall(f, function(failure)
    if is_handling and is_limit(failure) then
      return "error in error handling" -- the handler has failed, again and again
    elseif is_limit(failure) or S.is_over() then
      return failure
    end
    is_handling = true
    return handler(failure)
  end))
end

-- Collecting may be asked for, but no script decides for those after it when it happens.
function wrapped.collectgarbage(option, ...)
  if option == "stop" or option == "restart" then
    return 0
  elseif option == "setpause" or option == "setstepmul" then
    return 200
  end
  return results(raw_pcall(raw_collect, option, ...))
end

local function insert(t, ...)
  local n = select("#", ...)
  if type(t) == "table" and n == 1 and not protected[t] then
    raw_insert(t, (...))
    return
  end
  if protected[t] then
    error(READONLY, 0)
  elseif type(t) ~= "table" then
    error(format("bad argument #1 to 'insert' (table expected, got %s)",
      t == nil and n == 0 and "no value" or type(t)), 2)
  end
  return results(raw_pcall(raw_insert, t, ...))
end

-- Searching. What may be repeated Lua tries by recursion in C, a level for each: some 50,000 of them overflow the
-- stack of the process. Redis ends then.

local PATTERN_BYTES, REPEATED_MAX = 10000, 10000

local function is_complex(pattern)
  local _, repeated = gsub(pattern, "[*+?-]", "")
  return repeated > REPEATED_MAX
end

local function searching(name)
  local search = string[name]
  return function(...)
    local _, pattern = ...
    if type(pattern) == "string" and #pattern > PATTERN_BYTES and is_complex(pattern) then
      error("pattern too complex", 2)
    end
    return results(raw_pcall(search, ...))
  end
end

-- Code that is loaded: source only, never bytecode, which could do anything to the interpreter.

-- Return `load` and `loadstring` for scripts whose globals are `globals`.
local function compiler(globals)
  local function compile(source, name)
    if byte(source) == 27 then
      source = " " .. source -- the lexer then stumbles over the byte, with the message scripts know
    end
    local f, message = raw_loadstring(source, name)
    if f == nil then
      return nil, message
    end
    return setfenv(f, globals)
  end

  local function loadstring(...)
    local source, name = ...
    local kind = type(source)
    if kind == "number" then
      source = tostring(source)
    elseif kind ~= "string" then
      bad_type(1, "loadstring", "string", select("#", ...), source)
    end
    if name ~= nil and type(name) ~= "string" and type(name) ~= "number" then
      bad_type(2, "loadstring", "string", 2, name)
    end
    return compile(source, tostring(name or source))
  end

  local function load(...)
    local read, name = ...
    if type(read) ~= "function" then
      bad_type(1, "load", "function", select("#", ...), read)
    end
    if name ~= nil and type(name) ~= "string" and type(name) ~= "number" then
      bad_type(2, "load", "string", 2, name)
    end
    local pieces, n = {}, 0
    while true do
      local ok, piece = raw_pcall(read)
      if not ok and is_limit(piece) then
        error(piece, 0)
      elseif not ok then
        return nil, type(piece) == "table" and piece or { err = "ERR " .. tostring(piece) }
      elseif piece == nil or piece == "" then
        break
      elseif type(piece) ~= "string" and type(piece) ~= "number" then
        local caller = getinfo(2, "Sl")
        return nil, { err = format("ERR %s:%d: reader function must return a string", caller.short_src,
          caller.currentline) }
      end
      n = n + 1
      pieces[n] = piece
    end
    return compile(concat(pieces), tostring(name or "=(load)"))
  end

  return load, loadstring
end

-- Coroutines: the hook that bounds a script's time hangs on each of them.

local raw_create, raw_resume, raw_status = coroutine.create, coroutine.resume, coroutine.status

local function create(...)
  local f = ...
  local ok, thread = raw_pcall(raw_create, f)
  if not ok then
    error("bad argument #1 to 'create' (Lua function expected)", 2)
  end
  sethook(thread, S.hook, "", S.HOOK_INSTRUCTIONS)
  return thread
end

local function resume(...)
  if type((...)) ~= "thread" then
    error("bad argument #1 to 'resume' (coroutine expected)", 2)
  end
  return looked_after(raw_resume(...))
end

-- What a wrapped coroutine returns, or its error: with the position of the call before it, as Lua has it.
local function unwrapped(ok, ...)
  if ok then
    return ...
  end
  local message = ...
  if type(message) == "string" then
    error(message, 3)
  end
  error(message, 0)
end

local function wrap(f)
  local ok, thread = raw_pcall(raw_create, f)
  if not ok then
    error("bad argument #1 to 'wrap' (Lua function expected)", 2)
  end
  sethook(thread, S.hook, "", S.HOOK_INSTRUCTIONS)
  return function(...)
    return unwrapped(raw_resume(thread, ...))
  end
end

local function copy(source, names)
  local target = {}
  for name in string.gmatch(names, "%S+") do
    target[name] = source[name]
  end
  return target
end

local strings = copy(string, "byte char dump format len lower rep reverse sub upper")
strings.find, strings.match, strings.gsub = searching("find"), searching("match"), searching("gsub")
strings.gmatch = searching("gmatch")
strings.gfind = strings.gmatch
local tables = copy(table, "concat foreach foreachi getn maxn remove setn sort")
tables.insert = insert
local maths = copy(math, [[abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max
  min mod modf pi pow rad sin sinh sqrt tan tanh]])
maths.random, maths.randomseed = S.random, S.randomseed
local coroutines = copy(coroutine, "running status yield")
coroutines.create, coroutines.resume, coroutines.wrap = create, resume, wrap

local libraries = {
  string = protect(strings),
  table = protect(tables),
  math = protect(maths),
  coroutine = protect(coroutines),
  os = protect({ clock = os.clock }),
}
S.libraries = libraries

-- Methods of strings are looked up in the real table, which no script can reach, so that s:sub() costs as much
-- as ever.
local string_meta = raw_getmetatable("")
string_meta.__index = strings
string_meta.__metatable = protect({ __index = libraries.string })

-- Return globals for scripts: the proxy, the table behind it, and the proxy's metatable.
function S.make_globals(extra)
  local real = copy(_G, "_VERSION assert error gcinfo ipairs rawequal select tonumber tostring type unpack")
  for name, f in raw_pairs(wrapped) do
    real[name] = f
  end
  for name, library in raw_pairs(libraries) do
    real[name] = library
  end
  for name, value in raw_pairs(extra) do
    real[name] = value
  end
  local meta = {}
  local globals = protect(real, meta)
  real._G = globals
  real.load, real.loadstring = compiler(globals)
  S.strict(real)
  S.shown_metatables[globals] = protect({ __index = S.missing })
  return globals, real, meta
end

function S.missing(_, name)
  local shown = (type(name) == "string" or type(name) == "number") and tostring(name) or "(null)"
  error("Script attempted to access nonexistent global variable '" .. shown .. "'", 2)
end

-- Let a missing name in `real` be an error.
function S.strict(real)
  return raw_setmetatable(real, { __index = S.missing })
end
