"""Reading RDB files of all versions from 1 to 12, item by item.

    with open("dump.rdb", "rb", buffering=0) as file:
        for item in RdbReader(file):
            if isinstance(item, Key): ...

    file     "REDIS" version:4 digits item* 0xff [crc64:u64le]     from version 5 on; 0: not computed
    item     0xfe database:length                                  of the keys that follow
             0xfb keys:length expiring:length                      how many there will be
             0xfa name:string value:string                         aux
             0xf5 code:string                                      function
             [0xfd s:u32le or 0xfc ms:u64le] [0xf8 idle s:length] [0xf9 frequency:u8]
             type:u8 key:string value                              a key

Only as much is read as is asked for. A value whose chunks are not gone through is stepped over, which costs
as much, when the next item is asked for. The checksum is looked at after all else: what has been taken in by
then must be dropped if it is wrong.

Expired keys and fields are handed on as they are. Keys that are empty collections are left out, as in Redis.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, Protocol

from lamina.server.rdb import opcodes
from lamina.server.rdb.crc64 import CHECKSUM
from lamina.server.rdb.decoding import read_value
from lamina.server.rdb.errors import RdbError, UnsupportedError
from lamina.server.rdb.modules import module_name, skip_parts
from lamina.server.rdb.source import STRING_SIZE_MAX, Source
from lamina.server.rdb.values import (
    UNKNOWN,
    Aux,
    DatabaseSize,
    Function,
    Item,
    Key,
    Skipped,
    StreamValue,
    Value,
)

MAGIC: Final = b"REDIS"
_HEADER_SIZE: Final = len(MAGIC) + 4

_S: Final = struct.Struct("<I")
_MS: Final = struct.Struct("<Q")

EXPIRES_MS_MAX: Final = (1 << 63) - 1
DATABASE_MAX: Final = 0x7FFFFFFF


class ReadableFile(Protocol):
    """What is read from: a file opened for bytes, best without a buffer of its own."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none only at the end."""


class RdbReader:
    """The items of one file, from its start; to be gone through once.

    `skip_modules`: keys whose values only a module can read become Skipped items, instead of
    UnsupportedError. `string_size_max`: a longer string is taken for damage. `is_preamble`: more may follow,
    from `position` on, as in an append-only file. `version` is the file's.

    Errors: RdbError, UnsupportedError; OSError from the file.
    """

    def __init__(
        self,
        file: ReadableFile,
        *,
        skip_modules: bool = False,
        string_size_max: int = STRING_SIZE_MAX,
        is_preamble: bool = False,
    ) -> None:
        self._source = Source(file.read, string_size_max=string_size_max)
        self._skip_modules = skip_modules
        self._is_preamble = is_preamble
        header = self._source.take(_HEADER_SIZE)
        digits = header[len(MAGIC) :]
        if not header.startswith(MAGIC) or not digits.isdigit():
            raise RdbError(0, "this is no RDB file")
        self.version = int(digits)
        if not opcodes.VERSION_MIN <= self.version <= opcodes.VERSION_MAX:
            raise UnsupportedError(
                len(MAGIC), f"RDB version {self.version}; the latest that is read is {opcodes.VERSION_MAX}"
            )
        if self.version < opcodes.CHECKSUM_VERSION:
            self._source.checksum = None
        self._database = 0

    @property
    def position(self) -> int:
        """How many bytes of the file have been used."""
        return self._source.offset

    def __iter__(self) -> Iterator[Item]:
        """Yield the items."""
        source = self._source
        string = source.string
        database = 0
        expires_ms = 0
        idle_s = frequency = UNKNOWN
        while True:
            code = source.byte()
            if code == opcodes.STRING:
                yield Key(database, string(), string(), expires_ms, idle_s, frequency)
                expires_ms = 0
                idle_s = frequency = UNKNOWN
            elif code == opcodes.EXPIRES_MS:
                (expires_ms,) = _MS.unpack(source.take(8))
                if not 0 < expires_ms <= EXPIRES_MS_MAX:
                    # Redis keeps times as signed numbers: this one is past, but 0 would be never.
                    expires_ms = 1
            elif code < opcodes.SLOT_INFO:
                key = string()
                yield from self._keys(code, key, expires_ms, idle_s, frequency)
                expires_ms = 0
                idle_s = frequency = UNKNOWN
            elif code == opcodes.EXPIRES_S:
                (expires_s,) = _S.unpack(source.take(4))
                expires_ms = expires_s * 1000 or 1
            elif code == opcodes.IDLE:
                idle_s = source.length()
            elif code == opcodes.FREQUENCY:
                frequency = source.byte()
            elif code == opcodes.SELECT_DB:
                database = self._database = source.length()
                if database > DATABASE_MAX:
                    raise RdbError(source.offset, f"database {database}")
            elif code == opcodes.END:
                self._finish()
                return
            else:
                item = self._rare_item(code)
                if item is not None:
                    yield item

    def _keys(self, code: int, key: bytes, expires_ms: int, idle_s: int, frequency: int) -> Iterator[Item]:
        """Yield the key whose value of type `code` follows, if it has one."""
        if code == opcodes.MODULE_2 and self._skip_modules:
            name = module_name(self._source.length())
            skip_parts(self._source)
            yield Skipped(self._database, key, f"a value of the module type {name}")
            return
        value = read_value(self._source, code)
        if value is not None:
            yield Key(self._database, key, value, expires_ms, idle_s, frequency)
            _step_over(value)

    def _rare_item(self, code: int) -> Item | None:
        source = self._source
        if code == opcodes.AUX:
            return Aux(source.string(), source.string())
        if code == opcodes.RESIZE_DB:
            return DatabaseSize(self._database, source.length(), source.length())
        if code == opcodes.FUNCTION2:
            return Function(source.string())
        if code == opcodes.MODULE_AUX:
            # What a module keeps beside the keys: without the module there is no use for it, nor harm in
            # leaving it out. Redis itself refuses only if the module says so.
            name = module_name(source.length())
            skip_parts(source)
            return Skipped(self._database, b"", f"data of the module {name}")
        if code == opcodes.SLOT_INFO:
            for _ in ("slot", "keys", "expiring"):
                source.length()
            return None
        if code == opcodes.FUNCTION_PRE_GA:
            raise UnsupportedError(source.offset - 1, "functions in the form of a 7.0 release candidate")
        raise UnsupportedError(source.offset - 1, f"the unknown opcode {code}")

    def _finish(self) -> None:
        """Check what stands at the end."""
        source = self._source
        if self.version >= opcodes.CHECKSUM_VERSION:
            computed = source.computed_checksum()
            offset = source.offset
            (expected,) = CHECKSUM.unpack(source.take(CHECKSUM.size))
            # Zero: whoever wrote it was told not to compute one.
            if expected not in (0, computed):
                raise RdbError(offset, f"checksum {computed:016x} instead of {expected:016x}")
        if not self._is_preamble and source.prepare(1):
            raise RdbError(
                source.offset, "more bytes behind the end: an append-only file with an RDB preamble?"
            )


def _step_over(value: Value) -> None:
    """Read what is left of a value."""
    if isinstance(value, bytes):
        return
    for _ in value.chunks:
        pass
    if isinstance(value, StreamValue):
        for _ in value.groups:
            pass
