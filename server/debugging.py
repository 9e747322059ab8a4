"""What DEBUG looks at: digests of contents, and the inner side of a key.

A digest is SHA-1 over what a client can see of a key; those of all keys are combined by exclusive or, so
that their order does not matter. They are Lamina's own: equal contents have equal digests, however they came
to be, and whether they are held in memory or lie on disk.
"""

from __future__ import annotations

import hashlib

from lamina.server.databases import Databases
from lamina.server.encoding import LIST, U32, U64, end_of
from lamina.server.keyspace import Keyspace, Value
from lamina.server.memoryusage import element_prefix, stored_size
from lamina.server.records import BigString, Record, String, type_name
from lamina.server.types import keys, strings

_DIGEST_BYTES = 20
NO_DIGEST = bytes(_DIGEST_BYTES)


def value_digest(keyspace: Keyspace, value: Value) -> bytes:
    """Return the digest of what a key holds. Cost: O(n)."""
    digest = hashlib.sha1(type_name(value), usedforsecurity=False)
    if isinstance(value, bytes | String | BigString):
        digest.update(strings.text_of(keyspace, value))
    else:
        prefix = element_prefix(keyspace, value)
        assert prefix is not None
        skip = len(prefix)
        # Where a list's elements lie tells of its history; of the others it is part of what they say.
        shows_places = value.tag != LIST
        for key, element in keyspace.store.scan(prefix, end_of(prefix)):
            place = key[skip:] if shows_places else b""
            digest.update(U32.pack(len(place)) + place + U32.pack(len(element)) + element)
    if isinstance(value, Record) and value.expires_ms:
        digest.update(b"expires" + U64.pack(value.expires_ms))
    return digest.digest()


def key_digest(keyspace: Keyspace, key: bytes) -> bytes:
    """Return the digest of what a key holds, zeros if it does not exist."""
    value = keyspace.find(key)
    return NO_DIGEST if value is None else value_digest(keyspace, value)


def digest_of_all(databases: Databases) -> bytes:
    """Return the digest of all keys of all databases. Cost: reads everything."""
    total = 0
    for keyspace in databases.keyspaces:
        # Expired keys are removed as they are met, and nothing may be removed amid a scan.
        for key in [key for chunk, _ in keyspace.scan_keys() for key in chunk]:
            value = keyspace.find(key)
            if value is None:
                continue
            mixed = U32.pack(keyspace.index) + U32.pack(len(key)) + key + value_digest(keyspace, value)
            total ^= int.from_bytes(hashlib.sha1(mixed, usedforsecurity=False).digest(), "big")
    return total.to_bytes(_DIGEST_BYTES, "big")


def describe(keyspace: Keyspace, key: bytes, value: Value) -> bytes:
    """Return what DEBUG OBJECT says, in Redis's words; the length is that of the stored entries."""
    return b"Value at:0x%012x refcount:1 encoding:%b serializedlength:%d lru:0 lru_seconds_idle:0" % (
        id(value),
        keys.encoding_name(value),
        stored_size(keyspace, key, value),
    )
