-- The `redis` table, and how scripts are run.
--
-- What is asked of the server goes through functions of Python's, `host.*`. They are called here and nowhere
-- else, by pcall: what they return is strings, numbers, booleans and tables, and what they might raise, an object
-- of Python's, ends here. So no script ever holds one.
--
-- Memory: the interpreter's limit lies some MB above `soft_kb`. Python may only be entered below that: an
-- allocation that fails there would jump over Python's frames.

local S, host = ...

local type, select, tostring, tonumber, error, next = type, select, tostring, tonumber, error, next
local raw_pcall, xpcall, raw_rawget, setfenv, loadstring = pcall, xpcall, rawget, setfenv, loadstring
local getinfo, sethook, count_memory = debug.getinfo, debug.sethook, collectgarbage
local dump, format, gsub, find, sub = string.dump, string.format, string.gsub, string.find, string.sub
local concat, floor, byte, unpack = table.concat, math.floor, string.byte, unpack
local protect, TRUSTED = S.protect, S.TRUSTED

local OUT_OF_MEMORY, INTERNAL = S.OUT_OF_MEMORY, S.INTERNAL
local enter, ask = S.enter, S.ask
local soft_kb = host.soft_limit_kb

-- Kinds of what the host returns where one value does not say it: nil, kind, ...
local STATUS, ARRAY, NIL, FAILED, REFUSED, OUT_OF = 1, 2, 3, 4, 5, 6

local host_call, host_poll = host.call, host.poll

-- Make of what host.call has returned what redis.call returns.
local function finish(raises, ok, value, kind, ...)
  if value ~= nil and ok then
    return value
  elseif not ok then
    error(type(value) == "string" and value or INTERNAL, 0) -- Lua's own, or an object of Python's
  elseif kind == STATUS then
    return { ok = (...) }
  elseif kind == ARRAY then
    return { ... }
  elseif kind == NIL then
    return nil
  elseif kind == OUT_OF then
    error(OUT_OF_MEMORY, 0)
  end
  local failure = { err = (...) }
  if kind == FAILED then
    failure.ignore_error_stats_update = true
  end
  if raises then
    error(failure, 0)
  end
  return failure
end

-- More arguments than this go to Python in one string: lupa's time grows with the square of their number.
local ARGUMENTS_MAX = 64

local function packed(...)
  local parts, n = { ... }, select("#", ...)
  for i = 1, n do
    local part = parts[i]
    if type(part) == "number" then
      part = host.argument(part)
    elseif type(part) ~= "string" then
      return nil
    end
    parts[i] = "$" .. #part .. "\r\n" .. part .. "\r\n"
  end
  return "*" .. n .. "\r\n" .. concat(parts)
end

local function call(...)
  if count_memory("count") > soft_kb then
    enter()
  end
  if select("#", ...) > ARGUMENTS_MAX then
    return finish(true, raw_pcall(host.call_packed, packed(...)))
  end
  return finish(true, raw_pcall(host_call, ...))
end

local function pcall_(...)
  if count_memory("count") > soft_kb then
    enter()
  end
  if select("#", ...) > ARGUMENTS_MAX then
    return finish(false, raw_pcall(host.call_packed, packed(...)))
  end
  return finish(false, raw_pcall(host_call, ...))
end

local function fail(message)
  error({ err = "ERR " .. message }, 0)
end

local function text_of(value)
  local kind = type(value)
  if kind == "string" then
    return value
  elseif kind == "number" then
    return tostring(value)
  end
  return nil
end

local WRONG_REPLY_ARGUMENTS = "ERR wrong number or type of arguments"

local function error_reply(...)
  local message = ...
  if select("#", ...) ~= 1 or type(message) ~= "string" then
    return { err = WRONG_REPLY_ARGUMENTS }
  end
  message = gsub(message, "^%-", "")
  if not find(message, " ", 1, true) then
    message = "ERR " .. message
  end
  return { err = message }
end

local function status_reply(...)
  local message = ...
  if select("#", ...) ~= 1 or type(message) ~= "string" then
    return { err = WRONG_REPLY_ARGUMENTS }
  end
  return { ok = message }
end

local function log(...)
  local n = select("#", ...)
  if n < 2 then
    fail("redis.log() requires two arguments or more.")
  end
  local level = tonumber((...))
  if level == nil then
    fail("First argument must be a number (log level).")
  end
  level = level < 0 and -floor(-level) or floor(level)
  if level < 0 or level > 3 then
    fail("Invalid debug level.")
  end
  local words = {}
  for i = 2, n do
    words[#words + 1] = text_of((select(i, ...)))
  end
  enter()
  raw_pcall(host.log, level, concat(words, " "))
end

local function sha1hex(...)
  if select("#", ...) ~= 1 then
    fail("wrong number of arguments")
  end
  return (ask(host.sha1hex, text_of((...)) or ""))
end

local script_resp = 2

local function setresp(...)
  if select("#", ...) ~= 1 then
    fail("redis.setresp() requires one argument.")
  end
  local version = tonumber((...))
  if version ~= 2 and version ~= 3 then
    fail("RESP version must be 2 or 3.")
  end
  script_resp = version
  raw_pcall(host.setresp, version)
end

local REPL_ALL = 3

local function set_repl(...)
  if select("#", ...) ~= 1 then
    fail("redis.set_repl() requires two arguments.")
  end
  local flags = tonumber((...)) or 0
  if flags < 0 or flags > REPL_ALL then
    fail("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
  end
end

local function acl_check_cmd(...)
  enter()
  local ok, allowed, kind, message = raw_pcall(host.acl_check_cmd, ...)
  if not ok then
    error(type(allowed) == "string" and allowed or INTERNAL, 0)
  elseif kind ~= nil then
    error({ err = message }, 0)
  end
  return allowed
end

local function api_of(names)
  local api = {
    log = log,
    LOG_DEBUG = 0,
    LOG_VERBOSE = 1,
    LOG_NOTICE = 2,
    LOG_WARNING = 3,
    REDIS_VERSION = host.version,
    REDIS_VERSION_NUM = host.version_number,
  }
  for name, value in next, names do
    api[name] = value
  end
  return api
end

local function api_for_commands(names)
  local api = api_of({
    call = call,
    pcall = pcall_,
    error_reply = error_reply,
    status_reply = status_reply,
    sha1hex = sha1hex,
    setresp = setresp,
    set_repl = set_repl,
    acl_check_cmd = acl_check_cmd,
    REPL_NONE = 0,
    REPL_AOF = 1,
    REPL_SLAVE = 2,
    REPL_REPLICA = 2,
    REPL_ALL = REPL_ALL,
  })
  for name, value in next, names do
    api[name] = value
  end
  return api
end

local function with_libraries(api)
  return {
    redis = protect(api),
    cjson = S.cjson,
    cmsgpack = S.cmsgpack,
    struct = S.struct,
    bit = S.bit,
  }
end

-- Globals of EVAL's scripts. There is no debugger: a breakpoint says that none has been hit.
local eval_globals, eval_real = S.make_globals(with_libraries(api_for_commands({
  breakpoint = function() return false end,
  debug = function() end,
  replicate_commands = function() return true end,
})))

-- Globals of functions: while a library is loaded, no more than it takes to register them.
local register -- set below
local function_globals, function_real, function_meta = S.make_globals(with_libraries(api_for_commands({
  register_function = function(...) return register(...) end,
})))
local loading_real = S.strict({
  redis = protect(S.strict(api_of({ register_function = function(...) return register(...) end }))),
})

-- Time. The hook runs every so many instructions, in each coroutine. It lets the host look around, which may mean
-- that others are served, and learns of it whether the script has to end. One that has is stopped at every line
-- it comes to, so that no pcall can keep it alive. Of the trusted code only the libraries are stopped: this file and
-- its neighbours have states to keep, and soon come to their end.

local HOOK_INSTRUCTIONS = S.HOOK_INSTRUCTIONS
local verdict -- the error that the script has to end with
local is_replying = false -- it has ended, its reply is being made

local function hook(event)
  if event == "count" then
    -- Also when there is no memory left: the call takes none.
    local ok, number = raw_pcall(host_poll)
    if ok and number ~= nil then
      verdict = host.verdicts[number]
    end
    if is_replying then
      return
    elseif verdict ~= nil then
      sethook(hook, "l", HOOK_INSTRUCTIONS)
    elseif not ok and getinfo(2, "S").source ~= TRUSTED then
      error("stack overflow", 0) -- S.look_around will see to it
    elseif count_memory("count") > soft_kb and not raw_pcall(enter) and getinfo(2, "S").source ~= TRUSTED then
      error(OUT_OF_MEMORY, 0)
    end
  elseif verdict == nil then
    sethook(hook, "", HOOK_INSTRUCTIONS) -- a coroutine of a function that was killed is used again
  end
  if verdict ~= nil and getinfo(2, "S").source ~= TRUSTED then
    error({ err = verdict }, 0)
  end
end
S.hook = hook
sethook(hook, "", HOOK_INSTRUCTIONS)

function S.is_over()
  return verdict ~= nil
end

-- Do what the hook could not, as the script had come to a limit; if that cannot be done here either, the error goes on.
function S.look_around(message)
  local ok, number = raw_pcall(host_poll)
  if not ok then
    error(message, 0)
  elseif number ~= nil then
    verdict = host.verdicts[number]
    sethook(hook, "l", HOOK_INSTRUCTIONS)
  end
end

-- The line of the script that an error came from goes with it. Functions of this file and its neighbours count
-- as C, in which Redis has them.
local function is_trusted(info)
  return sub(info.source, 1, #TRUSTED) == TRUSTED
end

local function handler(failure)
  if type(failure) ~= "table" then
    failure = { err = "ERR " .. tostring(failure) }
  end
  local level = 2
  local info = getinfo(level, "Sl")
  if info ~= nil and info.what == "C" then
    local above = getinfo(level + 1, "Sl")
    if above == nil or (not is_trusted(above) and above.what ~= "tail") then
      failure.source = above and above.source
      failure.line = above and above.currentline
      return failure
    end
    level, info = level + 1, above
  end
  local passed = false
  while info ~= nil and (is_trusted(info) or info.what == "tail") do
    level, passed = level + 1, true
    info = getinfo(level, "Sl")
  end
  if passed and info ~= nil and info.what == "C" then
    local above = getinfo(level + 1, "S")
    if above == nil or is_trusted(above) then
      return failure -- this file's own pcall: no script has called
    end
  end
  if info ~= nil then
    failure.source = info.source
    failure.line = info.currentline
  end
  return failure
end

-- Compile a script. Returns the function, or nil and the message.
--
-- A tail call would take the script's frame away, and with it the line that errors name: `return redis.call()`
-- is the most frequent line of all. In Redis, where functions are C, it stays. So host.patch makes them ordinary
-- calls.
local function compile(source, name, globals)
  if byte(source) == 27 then
    source = " " .. source
  end
  local f, message = loadstring(source, name)
  if f == nil then
    return nil, message
  end
  enter()
  local ok, patched = raw_pcall(host.patch, dump(f))
  f = ok and patched and loadstring(patched, name) or f
  return setfenv(f, globals)
end

function S.compile(source)
  return compile(source, "@user_script", eval_globals)
end

local encode = S.encode_reply

-- What was to end has ended.
local function settle()
  if verdict ~= nil then
    verdict = nil
    sethook(hook, "", HOOK_INSTRUCTIONS)
  end
end

-- What a run has come to: the reply, or the error it ends with.
local function outcome(resp, ok, result)
  if ok then
    local kind, reply, errors = 0, result, nil
    if type(result) == "table" then
      is_replying = true
      kind, reply, errors = 1, encode(result, resp, script_resp)
      is_replying = false
    elseif type(result) == "boolean" and script_resp == 3 then
      kind = 2
    elseif type(result) ~= "string" and type(result) ~= "number" and type(result) ~= "boolean" then
      reply = nil
    end
    if verdict == nil then
      return kind, reply, errors
    end
    result = { err = verdict } -- it came while the reply was made
  end
  settle()
  if type(result) ~= "table" then
    return 4, result
  end
  local message = raw_rawget(result, "err")
  if type(message) == "number" then
    message = tostring(message)
  elseif type(message) ~= "string" then
    message = nil
  end
  return 3, message, text_of(raw_rawget(result, "source")), text_of(raw_rawget(result, "line")),
    raw_rawget(result, "ignore_error_stats_update") and true or false
end

local function begin()
  script_resp = 2
  verdict, is_replying = nil, false
end

local function keys_and_values(keys_count, ...)
  if keys_count == 0 then
    return {}, { ... }
  end
  local all = { ... }
  return { unpack(all, 1, keys_count) }, { unpack(all, keys_count + 1, #all) }
end

-- Run a script. resp: the version its reply is encoded for.
function S.run(f, resp, keys_count, ...)
  eval_real.KEYS, eval_real.ARGV = keys_and_values(keys_count, ...)
  begin()
  return outcome(resp, xpcall(f, handler))
end

function S.run_with_tables(f, resp, keys, values)
  eval_real.KEYS, eval_real.ARGV = keys, values
  begin()
  return outcome(resp, xpcall(f, handler))
end

-- Functions

local called, called_keys, called_values
local function call_function()
  return called(called_keys, called_values)
end

function S.run_function(f, resp, keys_count, ...)
  called_keys, called_values = keys_and_values(keys_count, ...)
  called = f
  begin()
  return outcome(resp, xpcall(call_function, handler))
end

function S.run_function_with_tables(f, resp, keys, values)
  called, called_keys, called_values = f, keys, values
  begin()
  return outcome(resp, xpcall(call_function, handler))
end

-- Let go of what the last run has been given.
function S.release()
  eval_real.KEYS, eval_real.ARGV = nil, nil
  called, called_keys, called_values = nil, nil, nil
end

-- What the library that is being loaded has registered: flat, name, function, description, flags; nil when none
-- is being loaded.
local registered

local FLAGS = { "no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys" }
for _, flag in next, { unpack(FLAGS) } do
  FLAGS[flag] = true
end

local function read_flags(flags)
  if type(flags) ~= "table" then
    fail("flags argument to redis.register_function must be a table representing function flags")
  end
  local found = {}
  for i = 1, #flags do
    local flag = flags[i]
    if flag == nil then
      break
    end
    if type(flag) ~= "string" or not FLAGS[flag] then
      fail("unknown flag given")
    end
    found[#found + 1] = flag
  end
  return concat(found, " ")
end

local function read_named(arguments)
  local name, callback, description, flags
  for key, value in next, S.protected[arguments] or arguments do
    if key == "function_name" then
      name = text_of(value) or fail("function_name argument given to redis.register_function must be a string")
    elseif key == "description" then
      description = text_of(value)
        or fail("description argument given to redis.register_function must be a string")
    elseif key == "callback" then
      if type(value) ~= "function" then
        fail("callback argument given to redis.register_function must be a function")
      end
      callback = value
    elseif key == "flags" then
      flags = read_flags(value)
    else
      fail("unknown argument given to redis.register_function")
    end
  end
  if name == nil then
    fail("redis.register_function must get a function name argument")
  elseif callback == nil then
    fail("redis.register_function must get a callback argument")
  end
  return name, callback, description, flags
end

register = function(...)
  local n = select("#", ...)
  if registered == nil then
    fail("redis.register_function can only be called on FUNCTION LOAD command")
  elseif n < 1 or n > 2 then
    fail("wrong number of arguments to redis.register_function")
  end
  local name, callback, description, flags
  if n == 1 then
    local arguments = ...
    if type(arguments) ~= "table" then
      fail("calling redis.register_function with a single argument is only applicable to Lua table"
        .. " (representing named arguments).")
    end
    name, callback, description, flags = read_named(arguments)
  else
    name, callback = ...
    name = text_of(name) or fail("first argument to redis.register_function must be a string")
    if type(callback) ~= "function" then
      fail("second argument to redis.register_function must be a function")
    end
  end
  if find(name, "[^%w_]") or name == "" then
    fail("Library names can only contain letters, numbers, or underscores(_) and must be at least one"
      .. " character long")
  end
  for i = 1, #registered, 4 do
    if registered[i] == name then
      fail("Function already exists in the library")
    end
  end
  local at = #registered
  registered[at + 1] = name
  registered[at + 2] = callback
  registered[at + 3] = description or false
  registered[at + 4] = flags or ""
end

-- Run the code of a library. Returns true and what it has registered; or false, whether it could be compiled, and
-- the message.
function S.load_library(source)
  local f, message = compile(source, "@user_function", function_globals)
  if f == nil then
    return false, false, message
  end
  registered = {}
  function_meta.__index = loading_real
  begin()
  local ok, failure = xpcall(f, handler)
  function_meta.__index = function_real
  local found = registered
  registered = nil
  if verdict ~= nil then
    ok, failure = false, { err = verdict }
    settle()
  end
  if ok then
    return true, unpack(found)
  end
  return false, true, type(failure) == "table" and text_of(failure.err) or tostring(failure)
end
