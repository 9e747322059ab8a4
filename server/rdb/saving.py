"""Writing RDB files that redis-server loads.

    writer = RdbWriter(file, SavingRules(version=REDIS_72))
    writer.write_aux(b"redis-ver", b"7.2.0")
    writer.select_database(0, keys=2, expiring=1)
    writer.write_key(b"greeting", b"hello")
    writer.write_key(b"queue", ListValue(chunks, size), expires_ms=1735689600000)
    writer.finish()

Nothing is sought back to: the file can be a pipe. What is not flushed, synced and renamed by the caller is
not safe on disk. If anything fails in between, the file is of no use.
"""

from __future__ import annotations

import struct
from typing import Final, Protocol

from lamina.server.rdb import opcodes
from lamina.server.rdb.crc64 import CHECKSUM, crc64
from lamina.server.rdb.encoding import encode_value
from lamina.server.rdb.lengths import encode_compressed, encode_length, encode_string
from lamina.server.rdb.loading import MAGIC
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.values import UNKNOWN, Aux, DatabaseSize, Function, Item, Key, Value

_FLUSH_BYTES: Final = 256 * 1024
_EXPIRES_MS: Final = struct.Struct("<BQ")

_AUX: Final = bytes((opcodes.AUX,))
_FUNCTION: Final = bytes((opcodes.FUNCTION2,))
_SELECT: Final = bytes((opcodes.SELECT_DB,))
_RESIZE: Final = bytes((opcodes.RESIZE_DB,))
_IDLE: Final = bytes((opcodes.IDLE,))
_END: Final = bytes((opcodes.END,))
_STRING: Final = bytes((opcodes.STRING,))


class WritableFile(Protocol):
    """What is written to: a file opened for bytes that takes all it is given at once."""

    def write(self, data: bytes, /) -> object:
        """Write all of `data`."""


class RdbWriter:
    """Writes one file, from its start to its end.

    `checksum` False: none is computed, and the file says so. Errors: ValueError for values that `rules` have
    no form for or whose size is not what they say; OSError from the file.
    """

    def __init__(self, file: WritableFile, rules: SavingRules, *, checksum: bool = True) -> None:
        self._write = file.write
        self._rules = rules
        self._string = encode_compressed if rules.compress else encode_string
        self._pieces = [MAGIC + b"%04d" % rules.version]
        self._buffered_bytes = len(self._pieces[0])
        self._written_bytes = 0
        self._checksum = 0
        self._has_checksum = checksum
        self._database = -1

    @property
    def position(self) -> int:
        """How many bytes have been made."""
        return self._written_bytes + self._buffered_bytes

    def write_aux(self, name: bytes, value: bytes) -> None:
        """Write something that the file says of itself."""
        self._add(_AUX + encode_string(name) + encode_string(value))

    def write_function(self, code: bytes) -> None:
        """Write a library of functions."""
        self._add(_FUNCTION + self._string(code))

    def select_database(self, database: int, keys: int, expiring: int) -> None:
        """Say to which database the keys that follow belong, and about how many they are."""
        self._database = database
        self._add(_SELECT + encode_length(database))
        self._add(_RESIZE + encode_length(keys) + encode_length(expiring))

    def write_key(
        self,
        key: bytes,
        value: Value,
        expires_ms: int = 0,
        idle_s: int = UNKNOWN,
        frequency: int = UNKNOWN,
    ) -> None:
        """Write a key. Cost: 1 µs for a short string."""
        head = _EXPIRES_MS.pack(opcodes.EXPIRES_MS, expires_ms) if expires_ms else b""
        if idle_s >= 0:
            head += _IDLE + encode_length(idle_s)
        if frequency >= 0:
            head += bytes((opcodes.FREQUENCY, frequency))
        string = self._string
        if isinstance(value, bytes):
            self._add(head + _STRING + string(key) + string(value))
            return
        code, pieces = encode_value(value, self._rules)
        self._add(head + bytes((code,)) + string(key))
        for piece in pieces:
            self._add(piece)

    def write_strings(self, keys: list[bytes], texts: list[bytes]) -> None:
        """Write keys that are strings and do not expire. Cost: half of `write_key`'s."""
        string = self._string
        self._add(b"".join([_STRING + string(key) + string(text) for key, text in zip(keys, texts)]))

    def write(self, item: Item) -> None:
        """Write what a reader has read; what was skipped there is here as well."""
        if isinstance(item, Key):
            if item.database != self._database:
                self._database = item.database
                self._add(_SELECT + encode_length(item.database))
            self.write_key(item.key, item.value, item.expires_ms, item.idle_s, item.frequency)
        elif isinstance(item, Aux):
            self.write_aux(item.name, item.value)
        elif isinstance(item, Function):
            self.write_function(item.code)
        elif isinstance(item, DatabaseSize):
            self.select_database(item.database, item.keys, item.expiring)

    def _add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._buffered_bytes += len(piece)
        if self._buffered_bytes >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._pieces)
        self._pieces.clear()
        if self._has_checksum:
            self._checksum = crc64(data, self._checksum)
        self._write(data)
        self._written_bytes += len(data)
        self._buffered_bytes = 0

    def finish(self) -> None:
        """Write the end and all that is buffered. The file is not closed."""
        self._add(_END)
        self._flush()
        self._write(CHECKSUM.pack(self._checksum))
        self._written_bytes += CHECKSUM.size
