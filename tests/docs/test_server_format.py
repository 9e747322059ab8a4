"""Section 10 of docs/format.md against what the server writes.

The first half is a reader of the server's entries, written from the page alone: of the server's code it uses
nothing. The tests hold what it reads against what commands return, and the page's examples and numbers
against the code. That entries come out of files as they went in is `test_format.py`'s matter.
"""

from __future__ import annotations

import importlib
import random
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.local import LocalClient, Servers, make_local

__all__ = ["make_local"]

PAGE = Path(__file__).parents[2] / "docs" / "format.md"

STRING, BIG_STRING, LIST, SET, ZSET, HASH, STREAM = range(7)
TYPE_NAMES = (b"string", b"string", b"list", b"set", b"zset", b"hash", b"stream")
FORM_NAMES = {
    LIST: (b"listpack", b"quicklist"),
    SET: (b"intset", b"listpack", b"hashtable"),
    ZSET: (b"listpack", b"skiplist", b"skiplist"),
    HASH: (b"listpack", b"hashtable", b"listpackex"),
    STREAM: (b"stream",),
}


# --- The reader


class Held(NamedTuple):
    """What one key holds."""

    kind: int
    value: Any
    expires_ms: int = 0
    form: int = 0
    times: dict[bytes, int] = {}  # noqa: RUF012  # never changed
    """When fields of a hash expire."""


class Reader:
    """All of a server's entries, every rule of the page checked. No entry may be left unexplained."""

    def __init__(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        self.left = dict(entries)
        self.seen_ids: set[int] = set()
        self.next_id = int.from_bytes(self.take(b"\0\0\0\0sid", b"\0" * 7 + b"\1"), "big")
        self.take(b"\0\0\0\0sprobe", b"")
        self.physical, self.next_pdb = self._read_map()
        pdbs = sorted({key[:4] for key in self.left})
        self.keyspaces = {pdb: self._read_database(pdb) for pdb in pdbs}
        assert not self.left
        homes = {self.physical.get(n, n + 1).to_bytes(4, "big") for n in range(1000)}
        assert homes >= set(pdbs)

    def take(self, key: bytes, default: bytes | None = None) -> bytes:
        """Return the value of an entry that is explained by that."""
        return self.left.pop(key) if default is None else self.left.pop(key, default)

    def _read_map(self) -> tuple[dict[int, int], int]:
        raw = self.take(b"\0\0\0\0sdatabases", struct.pack(">I", 1048576))
        next_pdb, *numbers = struct.unpack(f">{len(raw) // 4}I", raw)
        physical = dict(zip(numbers[::2], numbers[1::2], strict=True))
        assert list(physical) == sorted(physical)
        assert all(number < next_pdb for number in physical.values())
        return physical, next_pdb

    def database(self, index: int, now_ms: int) -> dict[bytes, Held]:
        """Return what SELECT's database `index` holds at a time."""
        pdb = self.physical.get(index, index + 1).to_bytes(4, "big")
        found = {}
        for key, held in self.keyspaces.get(pdb, {}).items():
            if held.expires_ms and held.expires_ms <= now_ms:
                continue
            if held.times:
                gone = {field for field, time in held.times.items() if time <= now_ms}
                value = {field: text for field, text in held.value.items() if field not in gone}
                times = {field: time for field, time in held.times.items() if field not in gone}
                held = held._replace(value=value, times=times)
                if not value:
                    continue
            found[key] = held
        return found

    def _read_database(self, pdb: bytes) -> dict[bytes, Held]:
        keys = [key for key in self.left if key[:5] == pdb + b"k"]
        return {key[5:]: self._read_record(pdb, key) for key in keys}

    def _read_record(self, pdb: bytes, engine_key: bytes) -> Held:
        raw, key = self.take(engine_key), engine_key[5:]
        kind, flags = raw[0] & 15, raw[0] & 0xF0
        assert flags in (0, 16)
        assert kind <= STREAM
        body, expires_ms = raw[1:], 0
        if flags:
            (expires_ms,) = struct.unpack(">Q", raw[1:9])
            assert expires_ms > 0
            assert self.take(pdb + b"t" + raw[1:9] + key) == b""
            body = raw[9:]
        if kind == STRING:
            return Held(kind, body, expires_ms)
        if kind == BIG_STRING:
            return Held(kind, self._read_chunks(pdb, body), expires_ms)
        size, form = struct.unpack_from(">QB", body, 8)
        assert size >= (kind != STREAM)
        assert form < len(FORM_NAMES[kind])
        elements = self._elements(pdb, body[:8])
        times: dict[bytes, int] = {}
        value: Any
        if kind == LIST:
            value = self._read_list(body, size, elements)
        elif kind == SET:
            assert len(body) == 17
            assert not any(elements.values())
            value = set(elements)
        elif kind == ZSET:
            assert len(body) == 17
            value = read_scores(elements, form)
        elif kind == STREAM:
            assert len(read_entries(elements)) == size
            return Held(kind, self._read_stream(pdb, body[17:], elements), expires_ms, form)
        else:
            value = elements
            times = self._read_times(pdb, key, body[17:], elements)
        assert len(value) == size
        return Held(kind, value, expires_ms, form, times)

    def _elements(self, pdb: bytes, raw_id: bytes) -> dict[bytes, bytes]:
        """Return all elements under an id, in their order."""
        number = int.from_bytes(raw_id, "big")
        assert 0 < number < self.next_id
        assert number not in self.seen_ids
        self.seen_ids.add(number)
        prefix = pdb + b"e" + raw_id
        keys = sorted(key for key in self.left if key.startswith(prefix))
        return {key[13:]: self.take(key) for key in keys}

    def _read_chunks(self, pdb: bytes, body: bytes) -> bytes:
        assert len(body) == 16
        size = int.from_bytes(body[8:], "big")
        text = bytearray(size)
        for number, chunk in self._elements(pdb, body[:8]).items():
            assert len(number) == 4
            at = int.from_bytes(number, "big") * 16384
            assert len(chunk) <= 16384
            assert at + len(chunk) <= size
            text[at : at + len(chunk)] = chunk
        return bytes(text)

    def _read_list(self, body: bytes, size: int, elements: dict[bytes, bytes]) -> list[bytes]:
        head, packed = struct.unpack_from(">QI", body, 17)
        values = list(elements.values())
        positions = [int.from_bytes(key[:8], "big") for key in elements]
        if len(body) == 29:
            assert [len(key) for key in elements] == [8] * size
            assert positions == list(range(head, head + size))
        else:
            assert len(body) == 37
            (tail,) = struct.unpack_from(">Q", body, 29)
            assert all(head <= position < tail for position in positions)
            suffixes = [key[8:] for key in elements]
            assert all(len(suffix) <= 32 and suffix[-1:] != b"\0" for suffix in suffixes)
        assert packed == 0xFFFFFFFF or packed >= 7 + 2 * size
        return values

    def _read_times(
        self, pdb: bytes, key: bytes, second: bytes, fields: dict[bytes, bytes]
    ) -> dict[bytes, int]:
        if not second:
            return {}
        count, due_ms = struct.unpack(">QQ", second[8:])
        assert self.take(pdb + b"f" + second[16:] + key) == b""
        entries = self._elements(pdb, second[:8])
        times = {e[1:]: int.from_bytes(raw, "big") for e, raw in entries.items() if e[:1] == b"f"}
        by_time = {e[1:]: raw for e, raw in entries.items() if e[:1] == b"t"}
        assert by_time == {time.to_bytes(8, "big") + field: b"" for field, time in times.items()}
        assert len(times) == count > 0
        assert len(entries) == 2 * count
        assert 0 < due_ms <= min(times.values())
        assert times.keys() <= fields.keys()
        return times

    def _read_stream(self, pdb: bytes, state: bytes, elements: dict[bytes, bytes]) -> Any:
        """Return ids, counter, entries and groups of a stream."""
        assert len(state) == 72
        groups_id, count, next_group = struct.unpack_from(">QII", state)
        last, first, deleted = state[16:32], state[32:48], state[48:64]
        assert first == min(elements, default=bytes(16))
        assert max(elements, default=b"") <= last
        groups = {}
        if groups_id:
            groups = read_groups(self._elements(pdb, state[:8]), next_group)
        assert len(groups) == count
        ids = tuple(map(id_text, (last, first, deleted)))
        return ids, int.from_bytes(state[64:], "big"), read_entries(elements), groups


def id_text(packed: bytes) -> bytes:
    assert len(packed) == 16
    return b"%d-%d" % struct.unpack(">QQ", packed)


def read_entries(elements: dict[bytes, bytes]) -> list[list[Any]]:
    """Return a stream's entries as XRANGE does."""
    found = []
    for packed, raw in elements.items():
        head, _, rest = raw.partition(b"\r\n")
        items = []
        for _ in range(int(head[1:])):
            size_text, _, rest = rest.partition(b"\r\n")
            size = int(size_text[1:])
            assert (head[:1], size_text[:1], rest[size : size + 2]) == (b"*", b"$", b"\r\n")
            items.append(rest[:size])
            rest = rest[size + 2 :]
        assert not rest
        assert len(items) % 2 == 0
        found.append([id_text(packed), items])
    return found


def read_groups(elements: dict[bytes, bytes], next_group: int) -> dict[bytes, Any]:
    """Return the groups of a stream by name: where they are, their consumers, and what is pending."""
    found: dict[bytes, Any] = {}
    left = dict(elements)
    numbers = set()
    for key, raw in elements.items():
        if key[:1] != b"g":
            continue
        number, consumer_count, next_consumer, *_, read, pending_count = struct.unpack(
            ">IIIQQqQ", left.pop(key)
        )
        assert number < next_group
        numbers.add(number)
        data = b"d" + number.to_bytes(4, "big")
        mine = {k[5:]: left.pop(k) for k in list(left) if k.startswith(data)}
        names = {k[1:]: value for k, value in mine.items() if k[:1] == b"n"}
        stored = {k[1:]: struct.unpack(">IqqQ", value) for k, value in mine.items() if k[:1] == b"c"}
        assert {one[0].to_bytes(4, "big"): name for name, one in stored.items()} == names
        assert all(one[0] < next_consumer for one in stored.values())
        pending = {k[1:]: struct.unpack(">IqQ", value) for k, value in mine.items() if k[:1] == b"p"}
        own = {k[1:]: value for k, value in mine.items() if k[:1] == b"o"}
        assert own == {one[0].to_bytes(4, "big") + packed: b"" for packed, one in pending.items()}
        assert len(names) + len(stored) + len(pending) + len(own) == len(mine)
        assert (len(stored), len(pending)) == (consumer_count, pending_count)
        owners = [one[0] for one in pending.values()]
        consumers = {name: owners.count(one[0]) for name, one in stored.items()}
        assert consumers == {name: one[3] for name, one in stored.items()}
        shown = [
            [id_text(packed), names[one[0].to_bytes(4, "big")], *one[1:]] for packed, one in pending.items()
        ]
        found[key[1:]] = id_text(raw[12:28]), read, consumers, shown
    assert not left
    assert len(numbers) == len(found)
    return found


def read_scores(elements: dict[bytes, bytes], form: int) -> dict[bytes, float]:
    """Return the scores of a sorted set's members, in the order of its second kind of entries."""
    scores = {e[1:]: struct.unpack(">d", raw)[0] for e, raw in elements.items() if e[:1] == b"m"}
    order = [e[1:] for e in elements if e[:1] == b"s"]
    assert len(scores) + len(order) == len(elements)
    assert order == [order_of(scores[key[8:]]) + key[8:] for key in order]
    assert {key[8:] for key in order} == scores.keys()
    assert form == 2 or not any(is_negative_zero(score) for score in scores.values())
    return {key[8:]: scores[key[8:]] for key in order}


def order_of(score: float) -> bytes:
    (bits,) = struct.unpack(">Q", struct.pack(">d", 0.0 if score == 0 else score))
    bits ^= 0xFFFFFFFFFFFFFFFF if score < 0 else 1 << 63
    return struct.pack(">Q", bits)


def is_negative_zero(score: float) -> bool:
    return struct.pack(">d", score) == struct.pack(">d", -0.0)


# --- What the server wrote, and what it says


def entries_of(client: LocalClient) -> dict[bytes, bytes]:
    databases = client.server.databases
    databases.commit()
    return dict(databases.store.db.scan())


def asked(client: LocalClient, key: bytes) -> Held:
    """Return what commands say of a key, in RESP3."""
    encoding = client("OBJECT", "ENCODING", key)
    expires_ms = max(client("PEXPIRETIME", key), 0)
    name = client("TYPE", key)
    if name == b"string":
        text = client("GET", key)
        return Held(BIG_STRING if len(text) >= 65536 else STRING, text, expires_ms)
    kind = TYPE_NAMES.index(name)
    times: dict[bytes, int] = {}
    value: Any
    if kind == LIST:
        value = client("LRANGE", key, 0, -1)
    elif kind == SET:
        value = client("SMEMBERS", key)
    elif kind == ZSET:
        value = dict(client("ZRANGE", key, 0, -1, "WITHSCORES"))
    elif kind == STREAM:
        value = asked_stream(client, key)
    else:
        value = client("HGETALL", key)
        fields = list(value)
        answers = client("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
        times = {field: time for field, time in zip(fields, answers, strict=True) if time > 0}
    assert encoding in FORM_NAMES[kind]
    return Held(kind, value, expires_ms, FORM_NAMES[kind].index(encoding), times)


def asked_stream(client: LocalClient, key: bytes) -> Any:
    """Return what commands say of a stream, as `Reader._read_stream` has it."""
    full = client("XINFO", "STREAM", key, "FULL", "COUNT", 0)
    names = b"last-generated-id", b"recorded-first-entry-id", b"max-deleted-entry-id"
    groups = {}
    for group in full[b"groups"]:
        read = -1 if group[b"entries-read"] is None else group[b"entries-read"]
        consumers = {one[b"name"]: one[b"pel-count"] for one in group[b"consumers"]}
        groups[group[b"name"]] = group[b"last-delivered-id"], read, consumers, group[b"pending"]
    return tuple(map(full.get, names)), full[b"entries-added"], full[b"entries"], groups


def comparable(held: Held) -> Held:
    """Return the same with forms that have one name made one, and the order of members part of it."""
    form = FORM_NAMES[held.kind].index(FORM_NAMES[held.kind][held.form]) if held.kind >= LIST else 0
    value = [*held.value.items()] if held.kind == ZSET else held.value
    return held._replace(form=form, value=repr(value) if held.kind == ZSET else value)


def compare(client: LocalClient) -> Reader:
    """Hold what the page reads against what commands say, in all databases; returns the reader."""
    reader = Reader(entries_of(client).items())
    client.client.resp = 3
    for index in range(len(client.server.databases.keyspaces)):
        client("SELECT", index)
        read = reader.database(index, client.clock.now_ms)
        said = {key: asked(client, key) for key in client("KEYS", "*")}
        assert {key: comparable(held) for key, held in read.items()} == {
            key: comparable(held) for key, held in said.items()
        }
    client("SELECT", 0)
    return reader


FAR_MS = 4_102_444_800_000


def write_all_types(client: LocalClient) -> None:
    """Write every kind of record and element that there is."""
    client("SET", "plain", "text")
    client("SET", "", "the empty key")
    client("SET", b"\0\xff\r\n", b"\xff\0")
    client("SET", "expiring", "text", "PXAT", FAR_MS)
    client("SET", "big", b"ab" * 40_000)
    client("APPEND", "big", "tail")
    client("PEXPIREAT", "big", FAR_MS + 1)
    client("SETRANGE", "sparse", 200_000, "end")
    client("RPUSH", "list", *range(100))
    client("LPUSH", "list", "first", "")
    client("LPUSH", "long", *[b"v" * 100] * 200)
    client("LTRIM", "long", 1, -1)
    client("RPUSH", "holes", *range(200))
    for n in range(80):
        client("LINSERT", "holes", "BEFORE" if n % 3 else "AFTER", 100, f"new {n}")
    client("LREM", "holes", 0, 50)
    client("SADD", "integers", 1, 2, -3)
    client("SADD", "words", "a", "b", "")
    client("SADD", "members", *[f"member {n}" for n in range(300)])
    client("ZADD", "small", 1.5, "b", -1, "a", 0, "", -0.0, "c")
    client("ZADD", "zset", *[part for n in range(-80, 80) for part in (n * 0.37, f"m{n}")])
    client("ZADD", "zset", "inf", "last", "-inf", "first", -0.0, "zero", "1e-320", "tiny")
    client("HSET", "hash", "f", "v", "", "")
    client("HSET", "fields", *[part for n in range(600) for part in (f"f{n}", n)])
    client("HPEXPIREAT", "hash", FAR_MS, "FIELDS", 1, "f")
    client("HPEXPIREAT", "fields", FAR_MS + 7, "FIELDS", 3, "f1", "f2", "f3")
    client("HPEXPIREAT", "fields", FAR_MS + 9, "FIELDS", 1, "f1")
    client("PEXPIREAT", "fields", FAR_MS + 8)
    client("XGROUP", "CREATE", "empty stream", "g", "$", "MKSTREAM")
    for n in range(40):
        client("XADD", "stream", f"{n + 1}-{n % 3}", "f", n, "", "long " * (n % 7))
    client("XDEL", "stream", "1-0", "40-0", "20-1")
    client("XTRIM", "stream", "MAXLEN", 30)
    for name, count in (("g", 12), ("h", 30)):
        client("XGROUP", "CREATE", "stream", name, 0)
        for consumer in ("ann", "bob"):
            client("XREADGROUP", "GROUP", name, consumer, "COUNT", count, "STREAMS", "stream", ">")
    client("XACK", "stream", "g", "12-2", "20-1", "30-2")
    client("XGROUP", "DELCONSUMER", "stream", "h", "ann")
    client("PEXPIREAT", "stream", FAR_MS + 8)


def test_the_page_reads_what_the_server_wrote(make_local: Servers) -> None:
    client = make_local.make(databases=4)
    write_all_types(client)
    entries = entries_of(client)
    reader = compare(client)
    (keyspace,) = reader.keyspaces.values()
    assert {(held.kind, held.form) for held in keyspace.values()} >= {
        (LIST, 0), (LIST, 1), (SET, 0), (SET, 1), (SET, 2), (ZSET, 0), (ZSET, 2), (HASH, 1), (HASH, 2),
        (STREAM, 0),
    }  # fmt: skip
    assert any(held.expires_ms for held in keyspace.values() if held.kind == BIG_STRING)
    suffixes = [key[21:] for key in entries if key[:5] == b"\0\0\0\1e" and key[13:14] == b"\x80" and key[21:]]
    assert len(suffixes) > 40
    client.reload()
    assert entries_of(client) == entries
    compare(client)


def test_what_has_expired_is_not_there(make_local: Servers) -> None:
    client = make_local.make(databases=2)
    client("SET", "soon", "text", "PX", 1000)
    client("SET", "later", "text", "PX", 3000)
    client("HSET", "hash", "a", 1, "b", 2)
    client("HPEXPIRE", "hash", 1000, "FIELDS", 1, "a")
    client("HSET", "gone", "a", 1)
    client("HPEXPIRE", "gone", 1000, "FIELDS", 1, "a")
    client.clock.advance(2000)
    reader = Reader(entries_of(client).items())
    assert reader.keyspaces[b"\0\0\0\1"].keys() == {b"soon", b"later", b"hash", b"gone"}
    assert reader.database(0, client.clock.now_ms).keys() == {b"later", b"hash"}
    assert client("HLEN", "gone") == 0  # KEYS does not look into hashes: it would still name this one
    compare(client)


def test_databases_that_have_been_exchanged_and_emptied(make_local: Servers) -> None:
    client = make_local.make(databases=4)
    write_all_types(client)
    for command in (
        ("SWAPDB", 0, 2), ("SET", "a", 1), ("FLUSHDB",), ("SADD", "b", 1), ("SELECT", 3), ("SET", "c", 1),
        ("MOVE", "c", 1), ("SELECT", 2), ("COPY", "zset", "copy"), ("RENAME", "list", "renamed"),
        ("DEL", "members", "words", "fields"), ("SET", "hash", "over a hash"), ("SELECT", 0),
    ):  # fmt: skip
        client(*command)
    reader = compare(client)
    assert reader.physical == {0: 1048576, 2: 1}
    assert reader.next_pdb == 1048577
    client("FLUSHALL")
    assert compare(client).left == {}
    assert all(not keys for keys in compare(client).keyspaces.values())


def random_command(rng: random.Random) -> tuple[Any, ...]:
    """Return a command that writes to one of a few keys, which often hold something else already."""
    key, number = rng.choice("abcdefgh"), rng.randrange(60)
    member, other = f"m{number}", rng.choice(["", b"\0\xff", number, "x" * 70])
    score = rng.choice([0, -0.0, 1.5, -2, number, "inf", -number / 7])
    time = FAR_MS + number
    commands: list[tuple[Any, ...]] = [
        ("SET", key, other), ("SET", key, other, "PXAT", time), ("SETRANGE", key, number * 3000, other),
        ("APPEND", key, "a" * 30_000), ("DEL", key), ("RENAME", key, rng.choice("abcdefgh")),
        ("COPY", key, rng.choice("abcdefgh"), "REPLACE"), ("PEXPIREAT", key, time), ("PERSIST", key),
        ("RPUSH", key, *range(number)), ("LPUSH", key, other), ("LINSERT", key, "BEFORE", number, other),
        ("LREM", key, 1, number), ("LPOP", key, number // 4), ("RPOP", key), ("LSET", key, number, other),
        ("LTRIM", key, number // 8, -1), ("SADD", key, number, other), ("SADD", key, *range(number, 160)),
        ("SREM", key, other, number), ("SPOP", key), ("ZADD", key, score, member, score, other),
        ("ZADD", key, *[part for n in range(number + 80) for part in (n, f"m{n}")]), ("ZREM", key, member),
        ("ZPOPMIN", key, number // 4), ("ZINCRBY", key, number, member), ("HSET", key, member, other),
        ("HSET", key, *[part for n in range(number * 10 + 1) for part in (f"m{n}", n)]),
        ("HDEL", key, member), ("HPEXPIREAT", key, time, "FIELDS", 1, member),
        ("HPERSIST", key, "FIELDS", 1, member), ("HPEXPIREAT", key, 1, "FIELDS", 1, member),
        ("XADD", key, "MAXLEN", number, "*", member, other), ("XDEL", key, "1-1"),
        ("XTRIM", key, "MAXLEN", 3),
        ("XGROUP", "CREATE", key, member, 0, "MKSTREAM"), ("XGROUP", "DESTROY", key, member),
        ("XREADGROUP", "GROUP", member, "c", "COUNT", 2, "STREAMS", key, ">"),
        ("SWAPDB", number % 3, 0), ("MOVE", key, number % 3), ("SELECT", number % 3), ("FLUSHDB",),
    ]  # fmt: skip
    return rng.choice(commands)


@pytest.mark.parametrize("seed", range(3))
def test_the_page_reads_any_history(make_local: Servers, seed: int) -> None:
    rng = random.Random(seed)
    client = make_local.make(databases=3)
    for _ in range(6):
        for _ in range(250):
            client(*random_command(rng))
        if rng.random() < 0.5:
            client.reload()
        compare(client)


# --- The page itself


def section() -> str:
    text = PAGE.read_text("utf-8")
    return text[text.index("\n## 10. ") :]


def examples() -> list[list[str]]:
    found = re.findall(r"^```server\n(.*?)^```$", section(), re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in found]


@pytest.mark.parametrize("lines", examples(), ids=lambda lines: lines[0])
def test_the_examples_are_what_the_server_writes(make_local: Servers, lines: list[str]) -> None:
    client = make_local.make(databases=4)
    shown: dict[bytes, bytes] = {}
    for line in lines:
        if re.match(r"[0-9a-f]{8}\.", line):
            key, _, value = line.partition(" ")
            shown[bytes.fromhex(key.replace(".", ""))] = bytes.fromhex(value)
        else:
            assert not shown
            client(*line.split())
    assert entries_of(client) == shown
    assert list(shown) == sorted(shown)
    compare(client)


def test_there_are_examples() -> None:
    assert len(examples()) >= 5


def numbers() -> list[tuple[str, str, str]]:
    return re.findall(r"^\| `([\w.]+)` \| `([^`]+)`(?:, (\d+))? \| [^|]+ \|$", section(), re.MULTILINE)


@pytest.mark.parametrize(("name", "value", "size"), numbers(), ids=lambda item: str(item)[:40])
def test_numbers_in_the_page_are_those_of_the_code(name: str, value: str, size: str) -> None:
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(f"lamina.server.{module}"), attribute)
    if isinstance(found, struct.Struct):
        assert (found.format, found.size) == (value, int(size))
    elif isinstance(found, int):
        assert found == int(value, 0)
    else:
        assert found.decode() == value


def test_the_page_has_a_table_of_numbers() -> None:
    assert len(numbers()) > 30
