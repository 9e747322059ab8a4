"""Make the tail calls in compiled Lua ordinary calls.

`return redis.call("GET", KEYS[1])` is a tail call. With redis.call written in Lua, as here, that takes the
script's own frame off the stack before the call begins, and with it the line that an error would name;
Redis's redis.call is C, for which Lua keeps the frame. An ordinary call followed by the return does the same
and keeps it as well. What is lost is recursion without end: tail calls nest, as other calls do, up to Lua's
limit of some 20000.

The form of bytecode, by `string.dump` of Lua 5.1 on a 64-bit machine:

    header of 12 bytes, then a function:
    function   source:string  line last_line:u32  upvalues parameters is_vararg stack:u8
               code:n*u32  constants:n*constant  functions:n*function  lines:n*u32  locals:n*(string u32 u32)
               upvalue names:n*string
    n*x        n:u32 x...                string     size:u64 bytes, which end with a NUL; size 0: none
    constant   0 | 1 u8 | 3 double | 4 string
"""

from __future__ import annotations

import struct
from typing import Final

_HEADER: Final = b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00"
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")

_OPCODE_MASK: Final = 0x3F
_CALL: Final = 28
_TAILCALL: Final = 29

_CONSTANT_SIZES: Final = {0: 0, 1: 1, 3: 8}
_STRING: Final = 4


def without_tail_calls(code: bytes) -> bytes | None:
    """Return the code of a function with its tail calls replaced, those of functions within it as well.

    None if it has none, or if it has another form than expected: then it is used as it is.
    """
    if not code.startswith(_HEADER):
        return None
    patched = bytearray(code)
    count = _patch_function(patched, len(_HEADER))[1]
    return bytes(patched) if count else None


def _patch_function(code: bytearray, at: int) -> tuple[int, int]:
    """Patch the function at `at`; returns where it ends and how many calls were changed."""
    at = _skip_string(code, at) + 12
    count = 0
    size = _u32(code, at)
    at += 4
    for position in range(at, at + 4 * size, 4):
        # The opcode is in the lowest six bits, and the two differ in the last one only.
        if code[position] & _OPCODE_MASK == _TAILCALL:
            code[position] &= ~(_CALL ^ _TAILCALL)
            count += 1
    at = _skip_constants(code, at + 4 * size)
    functions = _u32(code, at)
    at += 4
    for _ in range(functions):
        at, inner = _patch_function(code, at)
        count += inner
    at += 4 + 4 * _u32(code, at)
    names = _u32(code, at)
    at += 4
    for _ in range(names):
        at = _skip_string(code, at) + 8
    names = _u32(code, at)
    at += 4
    for _ in range(names):
        at = _skip_string(code, at)
    return at, count


def _skip_constants(code: bytearray, at: int) -> int:
    size = _u32(code, at)
    at += 4
    for _ in range(size):
        kind = code[at]
        at += 1
        at = _skip_string(code, at) if kind == _STRING else at + _CONSTANT_SIZES[kind]
    return at


def _skip_string(code: bytearray, at: int) -> int:
    size: int = _U64.unpack_from(code, at)[0]
    return at + 8 + size


def _u32(code: bytearray, at: int) -> int:
    value: int = _U32.unpack_from(code, at)[0]
    return value
