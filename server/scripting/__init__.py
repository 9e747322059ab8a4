"""Lua: scripts (EVAL and its relatives) and functions (FUNCTION, FCALL).

    lua/            the trusted side of the sandbox, and the libraries scripts may use, in Lua
    runtime.py      one Lua interpreter: its limits, what it may call, how functions are run in it
    bytecode.py     one change to compiled code, for the sake of error messages
    numberwork.py   what the libraries have done in Python: integers of 32 bits, floats as bytes
    conversion.py   replies of commands as values for Lua
    calls.py        redis.call: a command on behalf of a script
    flags.py        the line `#!lua ...` of a script or library
    scripts.py      the cache of scripts
    libraries.py    libraries of functions, which are part of the data
    loading.py      libraries where there is no server
    execution.py    what is known of a script while it runs
    engine.py       from a call of EVAL or FCALL to its reply
    yielding.py     the event loop goes on while a script takes long

Everything happens in the loop's thread. A script that takes long hands over to the loop now and then, by
greenlets: see yielding.py.
"""
