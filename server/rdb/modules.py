"""What Redis modules leave in a file: it can be stepped over, not read.

    value    id:length part*             part: kind:length, then by kind
    aux      id:length part*                   0 the end   1, 2 integer:length   3 f32   4 f64   5 string

An id is nine letters of six bits, the type's name, and ten bits of its encoding's version.
"""

from __future__ import annotations

from typing import Final

from lamina.server.rdb import opcodes
from lamina.server.rdb.errors import RdbError
from lamina.server.rdb.source import Source

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_VERSION_BITS: Final = 10
_NAME_SIZE: Final = 9


def module_name(number: int) -> str:
    """Return the name of a module's type, from its id."""
    number >>= _VERSION_BITS
    return "".join(_LETTERS[number >> 6 * place & 63] for place in reversed(range(_NAME_SIZE)))


def skip_parts(source: Source) -> None:
    """Step over what follows the id."""
    while True:
        kind = source.length()
        if kind == opcodes.MODULE_END:
            return
        if kind in (opcodes.MODULE_SIGNED, opcodes.MODULE_UNSIGNED):
            source.length()
        elif kind == opcodes.MODULE_FLOAT:
            source.take(4)
        elif kind == opcodes.MODULE_DOUBLE:
            source.take(8)
        elif kind == opcodes.MODULE_STRING:
            source.string()
        else:
            raise RdbError(source.offset, f"a module's part of the unknown kind {kind}")
