"""When the fields of one hash expire: a map from field to time, and the same in the order of time.

It lies under an id of its own, which is taken when a field of the hash is first given a time, so that hashes
without times pay nothing:

    f field              -> time:u64, in milliseconds since 1970
    t time:u64 field     -> nothing

Invariant: both hold the same fields. That these are fields of the hash is for `Hash` to see to.
"""

from __future__ import annotations

from itertools import islice

from lamina.server.elements import Elements
from lamina.server.encoding import U64
from lamina.server.keyspace import Keyspace

_TIME_SIZE = U64.size


class FieldTimes:
    """Times of expiry by field."""

    __slots__ = ("_by_field", "_by_time", "id")

    def __init__(self, keyspace: Keyspace, id: int, size: int) -> None:  # noqa: A002
        """`size` is 0 for new ones."""
        prefix = keyspace.element_prefix + U64.pack(id)
        self.id = id
        self._by_field = Elements(keyspace.store, prefix + b"f", size)
        self._by_time = Elements(keyspace.store, prefix + b"t", size)

    @property
    def size(self) -> int:
        """Number of fields that expire."""
        return self._by_field.size

    def get(self, field: bytes) -> int:
        """Return when a field expires; 0: never."""
        packed = self._by_field.get(field)
        return 0 if packed is None else int.from_bytes(packed, "big")

    def put(self, field: bytes, expires_ms: int) -> None:
        """Let a field expire at a time."""
        packed = U64.pack(expires_ms)
        old = self._by_field.get(field)
        if old == packed:
            return
        if old is not None:
            self._by_time.remove(old + field)
        self._by_field.put(field, packed)
        self._by_time.put(packed + field, b"")

    def remove(self, field: bytes) -> bool:
        """Let a field never expire; tells whether it did."""
        packed = self._by_field.remove(field)
        if packed is None:
            return False
        self._by_time.remove(packed + field)
        return True

    def first_ms(self) -> int:
        """Return when the first field expires; 0 if none does."""
        first = self._by_time.at(0)
        return 0 if first is None else int.from_bytes(first[0][:_TIME_SIZE], "big")

    def count_due(self, now_ms: int) -> int:
        """Return how many fields have expired. Cost: logarithmic."""
        return self._by_time.count(b"", U64.pack(now_ms + 1))

    def due(self, now_ms: int, limit: int | None = None) -> list[bytes]:
        """Return fields that have expired, the first to do so first, up to `limit`."""
        found = self._by_time.scan(b"", U64.pack(now_ms + 1))
        return [element[_TIME_SIZE:] for element, _ in islice(found, limit)]

    def items(self) -> list[tuple[bytes, int]]:
        """Return all fields that expire, and when."""
        return [(field, int.from_bytes(packed, "big")) for field, packed in self._by_field.items()]

    def drop(self) -> None:
        """Remove all."""
        self._by_field.drop()
        self._by_time.drop()

    def held_bytes(self) -> int:
        """Return the memory taken by what is held."""
        return self._by_field.held_bytes() + self._by_time.held_bytes()

    def let_go(self) -> None:
        """Stop holding."""
        self._by_field.let_go()
        self._by_time.let_go()

    def check(self) -> None:
        """Assert the invariant. For tests. Cost: a scan."""
        self._by_field.check()
        self._by_time.check()
        by_time = {packed + field for field, packed in self._by_field.items()}
        assert by_time == set(self._by_time.keys())
