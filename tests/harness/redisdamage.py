"""Redis data that do not fit together: a sample of all types, and what can be wrong with it.

folder = write_sample(tmp_path)                  # a closed server's database on the disk
LOGICAL["a set of the wrong size"](db)           # changes an open engine; what is wrong then, see `kinds`
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lamina.engine as engine
from harness.damage import Files, files_of
from harness.databases import TINY
from harness.local import Servers
from harness.memory_filesystem import MemoryFileSystem
from lamina.server.encoding import (
    DOUBLE,
    ELEMENT,
    EXPIRY,
    FIELD_EXPIRY,
    RECORD,
    STATE_PREFIX,
    U32,
    U64,
    encode_score,
    prefix_of,
)
from lamina.server.types.listkeys import MIDDLE
from lamina.server.types.streamgroups import (
    ALL,
    CONSUMER,
    CONSUMERS,
    DATA,
    GROUP,
    NAMES,
    NUMBERS,
    OWN,
    PENDING,
)
from lamina.server.types.streamids import pack
from lamina.server.types.streams import Place, encode_place, place_of
from lamina.tools.rediskeys import decode

FAR_MS = 4_102_444_800_000
PDB = 1

Change = Callable[[engine.Database], object]
"""Changes an open database."""

OPTIONS: dict[str, Any] = TINY | {"memtable_size_bytes": 20_000, "level_runs_max": 8}


@cache
def redis_files() -> Files:
    """Return the files of a server's database: every type, in several layers, databases and forms."""
    fs = MemoryFileSystem()
    servers = Servers()
    local = servers.make(fs=fs)
    for i in range(60):
        local("SET", f"s{i:02}", f"value {i} " * (i % 7 + 1))
        local("RPUSH", f"l{i:02}", *range(i % 9 + 1))
        local("SADD", f"m{i:02}", *[f"member {n}" for n in range(i % 11 + 1)])
        local("ZADD", f"z{i:02}", *[w for n in range(i % 8 + 1) for w in (n * 1.5 - 3, f"z{n}")])
        local("HSET", f"h{i:02}", *[w for n in range(i % 6 + 1) for w in (f"field{n}", f"value {i} {n}")])
        if i % 5 == 0:
            for key in (f"s{i:02}", f"l{i:02}", f"z{i:02}"):
                local("PEXPIREAT", key, FAR_MS + i)
            local("HPEXPIREAT", f"h{i:02}", FAR_MS + i, "FIELDS", 1, "field0")
    local("ZADD", "signed", *[w for n in range(200) for w in (n - 100, f"member{n:03}")])
    local("ZADD", "signed", "-0.0", "zero")
    local("RPUSH", "sparse", *[f"element {n}" for n in range(40)])
    for n in range(5, 15):
        local("LINSERT", "sparse", "BEFORE", f"element {n}", f"squeezed {n}")
        local("LREM", "sparse", 1, f"element {n}")
    local("SETRANGE", "big", 100_000, "end")
    local("SETRANGE", "big", 0, "beginning " * 3000)
    local("HSET", "timed", *[w for n in range(20) for w in (f"f{n}", n)])
    for n in range(10):
        local("HPEXPIREAT", "timed", FAR_MS + 10 - n, "FIELDS", 1, f"f{n}")
    for i in range(20):
        for n in range(i % 5 + 1):
            local("XADD", f"x{i:02}", f"{n + 1}-{i}", "field", f"value {i} {n}")
    for n in range(40):
        local("XADD", "shared", f"{n + 1}-0", "n", n)
    local("XDEL", "shared", "7-0", "8-0")
    local("XTRIM", "shared", "MAXLEN", 35)
    for name in ("first", "second", "idle"):
        local("XGROUP", "CREATE", "shared", name, 0)
    for name, consumer, count in (("first", "ann", 9), ("first", "bob", 6), ("second", "cid", 20)):
        local("XREADGROUP", "GROUP", name, consumer, "COUNT", count, "STREAMS", "shared", ">")
    local("XGROUP", "CREATECONSUMER", "shared", "first", "none")
    local("XACK", "shared", "first", "5-0", "15-0")
    local("XGROUP", "CREATE", "empty", "g", "$", "MKSTREAM")
    local("SELECT", 3)
    local("MSET", *[w for n in range(20) for w in (f"three{n}", n)])
    local("SELECT", 4)
    local("SET", "gone", 1)
    local("FLUSHDB")
    local("SADD", "four", *range(30))
    local("SWAPDB", 5, 3)
    local.server.databases.store.db.flush()
    path = local.server.databases.store.db.path
    servers.close()
    return files_of(fs, path)


def write_sample(folder: Path, files: Files | None = None) -> Path:
    """Write the sample, or other files, to a folder of the disk."""
    folder.mkdir(parents=True)
    for name, data in (redis_files() if files is None else files).items():
        (folder / name).write_bytes(data)
    return folder


def change(folder: Path, *changes: Change) -> None:
    """Change the database in a folder."""
    with engine.open(folder, **OPTIONS) as db:
        for one in changes:
            one(db)


# -- what can be wrong -------------------------------------------------------------------------------


def record_key(key: str, pdb: int = PDB) -> bytes:
    return prefix_of(pdb, RECORD) + key.encode()


def elements(db: engine.Database, key: str, pdb: int = PDB) -> bytes:
    """Return what the keys of a collection's elements begin with."""
    raw = db[record_key(key, pdb)]
    value: Any = decode(raw)
    return prefix_of(pdb, ELEMENT) + U64.pack(value.id)


def times(db: engine.Database, key: str) -> bytes:
    """Return what the keys of the times of a hash's fields begin with."""
    value: Any = decode(db[record_key(key)])
    return prefix_of(PDB, ELEMENT) + U64.pack(value.times.id)


def groups(db: engine.Database, key: str) -> bytes:
    """Return what the keys of a stream's consumer groups begin with."""
    value: Any = decode(db[record_key(key)])
    return prefix_of(PDB, ELEMENT) + U64.pack(value.groups.id)


def group_data(number: int) -> Callable[[engine.Database], bytes]:
    """Return what the keys of all that a group of `shared` has begin with."""
    return lambda db: groups(db, "shared") + DATA + U32.pack(number)


def place_in(db: engine.Database, key: str) -> Place:
    """Return what a stream's record says."""
    return place_of(db[record_key(key)][1:])


def edit_stream(key: str = "shared", **places: Any) -> Change:
    """Let a stream's record say something else; see streams.Place."""

    def apply(db: engine.Database) -> None:
        raw = db[record_key(key)]
        db.put(record_key(key), raw[:1] + encode_place(place_of(raw[1:])._replace(**places)))

    return apply


def edit(entry: Callable[[engine.Database], bytes], form: struct.Struct, **numbers: int) -> Change:
    """Let numbers in an entry's value be others; they are named `n0`, `n1` ... by their place in it."""

    def apply(db: engine.Database) -> None:
        key = entry(db)
        values = list(form.unpack(db[key]))
        for name, number in numbers.items():
            values[int(name[1:])] = number
        db.put(key, form.pack(*values))

    return apply


def resize(key: str, by: int) -> Change:
    """Let a collection's record say another size."""

    def apply(db: engine.Database) -> None:
        raw = db[record_key(key)]
        at = 9 if raw[0] & 0x10 else 1
        (size,) = U64.unpack_from(raw, at + 8)
        db.put(record_key(key), raw[: at + 8] + U64.pack(size + by) + raw[at + 16 :])

    return apply


def first_of(db: engine.Database, prefix: bytes) -> bytes:
    return next(db.scan(prefix=prefix))[0]


def remove_under(area: Callable[[engine.Database], bytes], count: int = 1) -> Change:
    """Remove the first entries under a prefix."""

    def apply(db: engine.Database) -> None:
        for key, _ in list(db.scan(prefix=area(db), limit=count)):
            db.delete(key)

    return apply


def put(entry: Callable[[engine.Database], tuple[bytes, bytes]]) -> Change:
    return lambda db: db.put(*entry(db))


LOGICAL: dict[str, tuple[Change, str]] = {
    # what is wrong: (how it comes about, the kind under which it is reported)
    "a set that says too much": (resize("m07", 3), "collection"),
    "a set that says too little": (resize("m07", -1), "collection"),
    "a hash that says too much": (resize("h04", 1), "collection"),
    "a list that says too much": (resize("l08", 2), "collection"),
    "a sparse list that says too little": (resize("sparse", -7), "collection"),
    "a zset that says too little": (resize("z07", -2), "collection"),
    "a big string that says too little": (resize("big", -1), "collection"),
    "a set without members": (remove_under(lambda db: elements(db, "m03"), 100), "collection"),
    "a big string without chunks": (remove_under(lambda db: elements(db, "big"), 100), "collection"),
    "a hole in a dense list": (
        lambda db: db.delete(elements(db, "l08") + U64.pack(MIDDLE + 3)),
        "collection",
    ),
    "a dense list without its head": (
        lambda db: db.delete(elements(db, "l08") + U64.pack(MIDDLE)),
        "collection",
    ),
    "a list element before the head": (
        lambda db: db.put(elements(db, "sparse") + U64.pack(MIDDLE - 5), b"early"),
        "collection",
    ),
    "a list element with a short key": (lambda db: db.put(elements(db, "l08") + b"abc", b"?"), "element"),
    "a list element whose suffix ends in 0": (
        lambda db: db.put(elements(db, "sparse") + U64.pack(MIDDLE + 1) + b"\1\0", b"?"),
        "element",
    ),
    "a member without a place in the order": (
        remove_under(lambda db: elements(db, "signed") + b"s", 3),
        "collection",
    ),
    "a place in the order without a member": (
        lambda db: db.put(elements(db, "signed") + b"s" + encode_score(7.5) + b"nobody", b""),
        "collection",
    ),
    "members that are only in the order": (
        remove_under(lambda db: elements(db, "signed") + b"m", 5),
        "collection",
    ),
    "a member at another place": (
        lambda db: db.put(elements(db, "signed") + b"mmember050", DOUBLE.pack(12345.0)),
        "collection",
    ),
    "a score that is no number": (
        lambda db: db.put(elements(db, "signed") + b"mmember050", DOUBLE.pack(float("nan"))),
        "element",
    ),
    "a score of three bytes": (lambda db: db.put(elements(db, "z07") + b"mz3", b"abc"), "element"),
    "a zset's element of no kind": (lambda db: db.put(elements(db, "z07") + b"xz3", b""), "element"),
    "a score of -0.0 where there is none": (
        lambda db: db.put(elements(db, "z02") + b"mz2", DOUBLE.pack(-0.0)),
        "collection",
    ),
    "a member with a value": (lambda db: db.put(first_of(db, elements(db, "m07")), b"value"), "element"),
    "a chunk that is too large": (
        lambda db: db.put(elements(db, "big") + U32.pack(1), b"x" * 20_000),
        "element",
    ),
    "a chunk beyond the end": (lambda db: db.put(elements(db, "big") + U32.pack(99), b"x"), "collection"),
    "a chunk without a number": (lambda db: db.put(elements(db, "big") + b"\1", b"x"), "element"),
    "a time by field only": (remove_under(lambda db: times(db, "timed") + b"t", 2), "collection"),
    "a time by time only": (remove_under(lambda db: times(db, "timed") + b"f", 2), "collection"),
    "times of no field": (remove_under(lambda db: elements(db, "timed"), 3), "collection"),
    "no times at all": (
        lambda db: [db.delete(key) for key, _ in list(db.scan(prefix=times(db, "timed")))],
        "collection",
    ),
    "a field that is due before the first": (
        lambda db: (
            (
                db.put(times(db, "timed") + b"ff15", U64.pack(5)),
                db.put(times(db, "timed") + b"t" + U64.pack(5) + b"f15", b""),
            )
        ),
        "collection",
    ),
    "a stream that says too much": (resize("x04", 3), "collection"),
    "a stream that says too little": (resize("shared", -2), "collection"),
    "a stream without entries": (remove_under(lambda db: elements(db, "x04"), 100), "collection"),
    "a stream's first entry at another id": (edit_stream(first_id=pack(2, 0)), "record"),
    "a stream with an entry behind its last id": (edit_stream(last_id=pack(20, 0)), "record"),
    "a stream without its first entry": (remove_under(lambda db: elements(db, "shared"), 2), "collection"),
    "a stream of form 3": (edit_stream(form=3), "record"),
    "a stream's entry with a short id": (
        lambda db: db.put(elements(db, "x07") + b"abc", b"*0\r\n"),
        "element",
    ),
    "a stream's entry that is none": (
        lambda db: db.put(first_of(db, elements(db, "x09")), b"*2\r\n$1\r\nf\r\n"),
        "element",
    ),
    "a stream's entry of one field without a value": (
        lambda db: db.put(elements(db, "x14") + pack(99, 0), b"*1\r\n$1\r\nf\r\n"),
        "element",
    ),
    "two streams with the same groups": (
        lambda db: edit_stream("x14", groups_id=place_in(db, "shared").groups_id, groups=3)(db),
        "id",
    ),
    "a stream that says it has more groups": (edit_stream(groups=5), "collection"),
    "a stream that would give a group's number again": (edit_stream(next_group=1), "collection"),
    "a group of no kind": (lambda db: db.put(groups(db, "shared") + b"gabc", b"?"), "element"),
    "something of a group that is none": (lambda db: db.put(groups(db, "shared") + b"zabc", b"?"), "element"),
    "a pending entry of three bytes": (
        lambda db: db.put(group_data(0)(db) + ALL + b"abc", bytes(PENDING.size)),
        "element",
    ),
    "a group that says it has less": (
        edit(lambda db: groups(db, "shared") + NAMES + b"second", GROUP, n1=0, n2=0, n6=3),
        "collection",
    ),
    "a consumer that says it has more": (
        edit(lambda db: group_data(0)(db) + CONSUMERS + b"ann", CONSUMER, n3=77),
        "collection",
    ),
    "a group without its name": (lambda db: db.delete(groups(db, "shared") + NAMES + b"first"), "collection"),
    "a group that was destroyed, and has come back in part": (
        lambda db: [
            db.put(groups(db, "shared") + DATA + U32.pack(9) + part, value)
            for part, value in (
                (CONSUMERS + b"old", CONSUMER.pack(0, 1, 1, 1)),
                (NUMBERS + U32.pack(0), b"old"),
                (OWN + U32.pack(0) + pack(9, 0), b""),
                (ALL + pack(9, 0), PENDING.pack(0, 1, 1)),
            )
        ],
        "element",
    ),
    "a consumer without its number": (
        lambda db: db.delete(group_data(0)(db) + NUMBERS + U32.pack(0)),
        "collection",
    ),
    "a consumer's number without a consumer": (
        lambda db: db.put(group_data(0)(db) + NUMBERS + U32.pack(9), b"nobody"),
        "collection",
    ),
    "a consumer that is gone": (lambda db: db.delete(group_data(0)(db) + CONSUMERS + b"ann"), "collection"),
    "a consumer of whom nothing is left": (
        lambda db: (
            db.delete(group_data(0)(db) + CONSUMERS + b"ann"),
            db.delete(group_data(0)(db) + NUMBERS + U32.pack(0)),
        ),
        "collection",
    ),
    "two consumers with one number": (
        edit(lambda db: group_data(0)(db) + CONSUMERS + b"bob", CONSUMER, n0=0),
        "element",
    ),
    "pending with the group only": (remove_under(lambda db: group_data(1)(db) + OWN, 4), "collection"),
    "pending with a consumer only": (remove_under(lambda db: group_data(1)(db) + ALL, 4), "collection"),
    "pending with a consumer who has acknowledged it": (
        lambda db: db.put(group_data(0)(db) + OWN + U32.pack(1) + pack(5, 0), b""),
        "collection",
    ),
    "pending with another consumer": (
        edit(lambda db: first_of(db, group_data(0)(db) + ALL), PENDING, n0=1),
        "collection",
    ),
    "elements of no key": (lambda db: db.delete(record_key("m07")), "orphan"),
    "many elements of no key": (
        lambda db: (
            [db.put(prefix_of(PDB, ELEMENT) + U64.pack(900) + b"%d" % n, b"") for n in range(400)] and None
        ),
        "orphan",
    ),
    "an element without an id": (lambda db: db.put(prefix_of(PDB, ELEMENT) + b"abc", b"x"), "element"),
    "a record of no type": (lambda db: db.put(record_key("odd"), b"\x0e123"), "record"),
    "an empty record": (lambda db: db.put(record_key("odd"), b""), "record"),
    "a record that is too short": (lambda db: db.put(record_key("h04"), db[record_key("h04")][:9]), "record"),
    "a record with something behind it": (
        lambda db: db.put(record_key("m07"), db[record_key("m07")] + b"more"),
        "record",
    ),
    "a form of which there is none": (
        lambda db: db.put(record_key("m07"), db[record_key("m07")][:-1] + b"\x09"),
        "record",
    ),
    "two keys of one id": (lambda db: db.put(record_key("n07"), db[record_key("m07")]), "id"),
    "an index entry of no key": (
        lambda db: db.put(prefix_of(PDB, EXPIRY) + U64.pack(FAR_MS) + b"nobody", b""),
        "index",
    ),
    "an index entry at another time": (
        lambda db: (
            (
                db.delete(prefix_of(PDB, EXPIRY) + U64.pack(FAR_MS + 5) + b"s05"),
                db.put(prefix_of(PDB, EXPIRY) + U64.pack(FAR_MS + 6) + b"s05", b""),
            )
        ),
        "index",
    ),
    "a missing index entry": (
        lambda db: db.delete(prefix_of(PDB, EXPIRY) + U64.pack(FAR_MS + 10) + b"l10"),
        "index",
    ),
    "an index entry with a value": (
        lambda db: db.put(prefix_of(PDB, EXPIRY) + U64.pack(FAR_MS + 10) + b"l10", b"?"),
        "index",
    ),
    "a missing index entry of fields": (
        remove_under(lambda db: prefix_of(PDB, FIELD_EXPIRY), 3),
        "index",
    ),
    "an id counter that is too low": (lambda db: db.put(STATE_PREFIX + b"id", U64.pack(5)), "state"),
    "no id counter": (lambda db: db.delete(STATE_PREFIX + b"id"), "state"),
    "an id counter of three bytes": (lambda db: db.put(STATE_PREFIX + b"id", b"abc"), "state"),
    "no map of databases": (lambda db: db.delete(STATE_PREFIX + b"databases"), "state"),
    "a map of databases of three bytes": (lambda db: db.put(STATE_PREFIX + b"databases", b"abc"), "state"),
    "two databases in one": (
        lambda db: db.put(
            STATE_PREFIX + b"databases", db[STATE_PREFIX + b"databases"] + U32.pack(9) + U32.pack(6)
        ),
        "state",
    ),
    "a next database that is taken": (
        lambda db: db.put(STATE_PREFIX + b"databases", U32.pack(1) + db[STATE_PREFIX + b"databases"][4:]),
        "state",
    ),
    "what is left of a flushed database": (
        lambda db: db.put(record_key("left", pdb=(1 << 20) - 1 + 2000), b"\0left"),
        "leftover",
    ),
    "a key of no area": (lambda db: db.put(U32.pack(PDB) + b"zzz", b"x"), "foreign"),
    "a key before all areas": (lambda db: db.put(b"\0", b"x"), "foreign"),
    "a key of a later letter": (lambda db: db.put(U32.pack(PDB) + b"jjj", b"x"), "foreign"),
}

TOGETHER = [
    apply
    for what, (apply, _) in LOGICAL.items()
    if what not in ("elements of no key", "a set without members", "no map of databases", "no id counter")
]
"""Changes that can be made one after the other: none takes away what another one changes."""
