"""Records: what a key holds, decoded.

A string that does not expire is cached as its bytes, without an object around it; everything else is a
`Record`. Each data type's module in types/ derives its own class from `Collection`, naming its tag:

    class Hash(Collection, tag=HASH, name=b"hash"): ...

encoding.py draws how records are stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lamina.server.elements import Elements
from lamina.server.encoding import (
    BIG,
    BIG_STRING,
    COLLECTION,
    HAS_EXPIRY,
    STRING,
    TYPE_MASK,
    U64,
)

if TYPE_CHECKING:
    from lamina.server.keyspace import Keyspace

RECORD_OVERHEAD_BYTES = 600
"""Memory of a cached record beside its bytes: the same, and the objects it consists of (measured)."""

_CLASSES: dict[int, type[Record]] = {}


class Record:
    """What a key holds. `expires_ms` is 0 for keys that do not expire."""

    __slots__ = ("expires_ms", "weighed_bytes")

    tag: ClassVar[int]
    name: ClassVar[bytes]
    """The type, as TYPE names it."""

    fields_due_ms: int = 0
    """When some field of a hash may have expired; 0 if none ever does, as for all other types."""

    expires_ms: int
    weighed_bytes: int
    """What the caches' weight has counted of it."""

    def __init_subclass__(cls, tag: int | None = None, name: bytes = b"") -> None:
        if tag is not None:
            if tag in _CLASSES:
                raise ValueError(f"two record classes with tag {tag}")
            cls.tag = tag
            cls.name = name
            _CLASSES[tag] = cls

    def encode(self) -> bytes:
        """Return the record as it is stored."""
        if self.expires_ms:
            return bytes((self.tag | HAS_EXPIRY,)) + U64.pack(self.expires_ms) + self.encode_body()
        return bytes((self.tag,)) + self.encode_body()

    def encode_body(self) -> bytes:
        """Return what comes after tag and expiry."""
        raise NotImplementedError

    @classmethod
    def decode_body(cls, keyspace: Keyspace, body: bytes) -> Record:
        """Return the record that `encode_body` has encoded, without expiry. Errors: ValueError."""
        raise NotImplementedError

    def clone(self, keyspace: Keyspace) -> bytes | Record:
        """Return a copy for `keyspace`, perhaps another one, that does not expire. Cost: O(elements)."""
        raise NotImplementedError

    def drop(self, keyspace: Keyspace) -> None:
        """Remove what the record has beside itself: its elements."""

    def expire_fields(self, keyspace: Keyspace, key: bytes, limit: int) -> bool:
        """Remove up to `limit` fields that have expired; tells whether some are left. Hashes have fields."""
        return False

    def held_bytes(self) -> int:
        """Return about how much memory the record takes while it is cached."""
        return RECORD_OVERHEAD_BYTES

    def let_go(self) -> None:
        """Give back memory that is not needed."""


class String(Record, tag=STRING, name=b"string"):
    """A string that expires."""

    __slots__ = ("value",)

    def __init__(self, value: bytes, expires_ms: int) -> None:
        self.value = value
        self.expires_ms = expires_ms
        self.weighed_bytes = 0

    def encode_body(self) -> bytes:
        """Return the string."""
        return self.value

    @classmethod
    def decode_body(cls, keyspace: Keyspace, body: bytes) -> String:
        """Return the string."""
        return cls(body, 0)

    def clone(self, keyspace: Keyspace) -> bytes:
        """Return the string."""
        return self.value

    def held_bytes(self) -> int:
        """Return the memory it takes."""
        return RECORD_OVERHEAD_BYTES + len(self.value)


class BigString(Record, tag=BIG_STRING, name=b"string"):
    """A string in chunks: types/bigstrings.py knows them."""

    __slots__ = ("id", "prefix", "size")

    def __init__(self, keyspace: Keyspace, id: int, size: int) -> None:  # noqa: A002
        self.expires_ms = self.weighed_bytes = 0
        self.id = id
        self.prefix = keyspace.element_prefix + U64.pack(id)
        self.size = size

    def encode_body(self) -> bytes:
        """Return id and size."""
        return BIG.pack(self.id, self.size)

    @classmethod
    def decode_body(cls, keyspace: Keyspace, body: bytes) -> BigString:
        """Return the record."""
        if len(body) != BIG.size:
            raise ValueError(f"a big string's record of {len(body)} bytes")
        return cls(keyspace, *BIG.unpack(body))

    def clone(self, keyspace: Keyspace) -> BigString:
        """Return a copy with chunks of its own."""
        copy = BigString(keyspace, keyspace.databases.take_id(), self.size)
        skip = len(self.prefix)
        for key, chunk in list(keyspace.store.scan_prefix(self.prefix)):
            keyspace.store.put(copy.prefix + key[skip:], chunk, False)
        return copy

    def drop(self, keyspace: Keyspace) -> None:
        """Discard the chunks."""
        keyspace.store.discard(self.prefix, keyspace.element_prefix + U64.pack(self.id + 1))


class Collection(Record):
    """A record with elements under an id of its own. `form` is the encoding that Redis would have chosen."""

    __slots__ = ("elements", "form", "id")

    def __init__(self, keyspace: Keyspace, id: int, size: int, form: int = 0) -> None:  # noqa: A002
        self.expires_ms = self.weighed_bytes = 0
        self.id = id
        self.form = form
        self.elements = self.open_elements(keyspace, size)

    def open_elements(self, keyspace: Keyspace, size: int) -> Elements:
        """Return the map of the elements. Types with more than one key range override this."""
        return Elements(keyspace.store, keyspace.element_prefix + U64.pack(self.id), size)

    @classmethod
    def create(cls, keyspace: Keyspace) -> Collection:
        """Return a new, empty collection under a fresh id."""
        return cls(keyspace, keyspace.databases.take_id(), 0)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.elements.size

    def encode_body(self) -> bytes:
        """Return id, size and form. Types that keep more override this and `decode_body`."""
        return COLLECTION.pack(self.id, self.elements.size, self.form)

    @classmethod
    def decode_body(cls, keyspace: Keyspace, body: bytes) -> Collection:
        """Return the collection; its elements are read when they are needed."""
        if len(body) < COLLECTION.size:
            raise ValueError(f"a collection's record of {len(body)} bytes")
        return cls(keyspace, *COLLECTION.unpack_from(body))

    def clone(self, keyspace: Keyspace) -> Collection:
        """Return a copy with elements of its own."""
        copy = type(self).create(keyspace)
        copy.form = self.form
        put = copy.elements.put
        for element, value in self.elements.items():
            put(element, value)
        return copy

    def drop(self, keyspace: Keyspace) -> None:
        """Remove the elements."""
        self.elements.drop()

    def check(self) -> None:
        """Assert the invariants. For tests. Cost: a scan."""
        self.elements.check()

    def held_bytes(self) -> int:
        """Return the memory it takes."""
        return RECORD_OVERHEAD_BYTES + self.elements.held_bytes()

    def let_go(self) -> None:
        """Stop holding the elements."""
        self.elements.let_go()


def decode_record(keyspace: Keyspace, raw: bytes) -> Record:
    """Return the record that `raw` holds, which is no plain string.

    Errors: ValueError, IndexError or struct.error for bytes that are no record.
    """
    tag = raw[0]
    cls = _CLASSES.get(tag & TYPE_MASK)
    if cls is None:
        raise ValueError(f"a record of unknown type {tag}")
    if tag & HAS_EXPIRY:
        record = cls.decode_body(keyspace, raw[9:])
        (record.expires_ms,) = U64.unpack_from(raw, 1)
        return record
    return cls.decode_body(keyspace, raw[1:])


def type_name(value: bytes | Record | None) -> bytes:
    """Return what TYPE says."""
    if value is None:
        return b"none"
    return b"string" if isinstance(value, bytes) else value.name
