"""What commands do to their keys, and where these stand: the key specifications that COMMAND INFO shows.

Where the keys of a command stand is declared with it; how they are used cannot be derived from that, so the
table here says it. A use is one of RO (read only), RW, OW (overwritten unread), RM (removed unread), and what
of: `access` (the value is returned or copied), `update`, `insert`, `delete`. `not_key` is a channel that
stands where a key would.

A command whose keys differ in use, or move about, has a specification for each group of them:

    @2          the argument at 2                       @2..-1      those from 2 to the last
    @1#         as many as the argument at 1 says       STORE+6     the one after the word STORE, from 6 on
    STREAMS+1/2 the first half of what follows the word STREAMS                 ?   cannot be said

A negative start searches backwards. Cluster clients route commands by this; ACL's key permissions ask for it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final, NamedTuple

from lamina.server.registry import NO_KEYS, Command, Keys, key_positions
from lamina.server.replies import Distinct

_USES: Final = {
    "RO": (
        "EXISTS HEXISTS HLEN HSTRLEN LLEN MEMORY|USAGE OBJECT|ENCODING OBJECT|FREQ OBJECT|IDLETIME "
        "OBJECT|REFCOUNT SCARD SISMEMBER STRLEN TOUCH TYPE WATCH XLEN ZCARD"
    ),
    "RW access": "PFDEBUG PFCOUNT",
    "RW access delete": "BLPOP BRPOP BZPOPMAX BZPOPMIN GETDEL LPOP RPOP SPOP ZPOPMAX ZPOPMIN HGETDEL",
    "RW access update": (
        "DECR DECRBY GETEX GETSET HINCRBY HINCRBYFLOAT INCR INCRBY INCRBYFLOAT MOVE SETBIT ZINCRBY"
    ),
    "RW access update variable_flags": "SET BITFIELD",
    "RW insert": (
        "APPEND HSETNX LINSERT LPUSH LPUSHX PFADD RPUSH RPUSHX SADD XGROUP|CREATE XGROUP|CREATECONSUMER"
    ),
    "RW update": (
        "EXPIRE EXPIREAT GEOADD HMSET HSET LSET PERSIST PEXPIRE PEXPIREAT SETRANGE XACK XADD XCLAIM "
        "XGROUP|SETID XSETID ZADD HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HPERSIST"
    ),
    "RW delete": (
        "HDEL LREM LTRIM SREM XAUTOCLAIM XDEL XGROUP|DELCONSUMER XGROUP|DESTROY XTRIM ZREM ZREMRANGEBYLEX "
        "ZREMRANGEBYRANK ZREMRANGEBYSCORE"
    ),
    "OW insert": "MSETNX SETNX",
    "OW update": "MSET PSETEX RESTORE RESTORE-ASKING SETEX",
    "RM delete": "DEL UNLINK",
    "not_key": "SPUBLISH SSUBSCRIBE",
}
"""Commands all of whose keys are used alike. Those that are not here and only read are `RO access`."""

_UNKNOWN_USE = "what a script does to its keys is not known: the most is assumed"
_MOVE = ("RW access delete @1", "RW insert @2")
_STORE_MANY = ("OW update @1", "RO access @2..-1")
_STORE_COUNTED = ("OW update @1", "RO access @2#")
_SPECS: Final = {
    "BITOP": ("OW update @2", "RO access @3..-1"),
    "BLMOVE": _MOVE,
    "BLMPOP": ("RW access delete @2#",),
    "BRPOPLPUSH": _MOVE,
    "BZMPOP": ("RW access delete @2#",),
    "COPY": ("RO access @1", "OW update @2"),
    "EVAL": ("RW access update @2#",),
    "EVALSHA": ("RW access update @2#",),
    "EVALSHA_RO": ("RO access @2#",),
    "EVAL_RO": ("RO access @2#",),
    "FCALL": ("RW access update @2#",),
    "FCALL_RO": ("RO access @2#",),
    "GEORADIUS": ("RO access @1", "OW update STORE+6", "OW update STOREDIST+6"),
    "GEORADIUSBYMEMBER": ("RO access @1", "OW update STORE+5", "OW update STOREDIST+5"),
    "GEOSEARCHSTORE": ("OW update @1", "RO access @2"),
    "LMOVE": _MOVE,
    "LMPOP": ("RW access delete @1#",),
    "MIGRATE": ("RW access delete @3", "RW access delete incomplete KEYS-2..-1"),
    "PFMERGE": ("RW access insert @1", "RO access @2..-1"),
    "RENAME": ("RW access delete @1", "OW update @2"),
    "RENAMENX": ("RW access delete @1", "OW insert @2"),
    "RPOPLPUSH": _MOVE,
    "SDIFFSTORE": _STORE_MANY,
    "SINTERCARD": ("RO access @1#",),
    "SINTERSTORE": ("RW update @1", "RO access @2..-1"),
    "SMOVE": _MOVE,
    "SORT": ("RO access @1", "RO access ?", "OW update ?"),
    "SORT_RO": ("RO access @1", "RO access ?"),
    "SUNIONSTORE": _STORE_MANY,
    "SUNSUBSCRIBE": ("not_key @1..-1",),
    "XREAD": ("RO access STREAMS+1/2",),
    "XREADGROUP": ("RO access STREAMS+4/2",),
    "ZDIFF": ("RO access @1#",),
    "ZDIFFSTORE": _STORE_COUNTED,
    "ZINTER": ("RO access @1#",),
    "ZINTERCARD": ("RO access @1#",),
    "ZINTERSTORE": _STORE_COUNTED,
    "ZMPOP": ("RW access delete @1#",),
    "ZRANGESTORE": ("OW update @1", "RO access @2"),
    "ZUNION": ("RO access @1#",),
    "ZUNIONSTORE": _STORE_COUNTED,
}

_NOTES: Final = {
    ("BITFIELD", 0): "whether it reads only or writes depends on the operations",
    ("EVAL", 0): _UNKNOWN_USE,
    ("EVAL_RO", 0): _UNKNOWN_USE,
    ("FCALL", 0): _UNKNOWN_USE,
    ("FCALL_RO", 0): _UNKNOWN_USE,
    ("GETEX", 0): "it updates the time of expiry",
    ("PFCOUNT", 0): "it may update the count that is kept with the value",
    ("SET", 0): "it reads only with GET",
    ("SORT", 1): "BY and GET: the names of the keys come from the elements",
    ("SORT", 2): "STORE: it may stand anywhere among the options",
    ("SORT_RO", 1): "BY and GET: the names of the keys come from the elements",
    ("XADD", 0): "it may trim, so it does more than insert",
}
"""What there is to say about a specification, by its place."""

_READING_OPERATIONS: Final = {b"GET": 3, b"OVERFLOW": 2}
"""Words of BITFIELD's operations that change nothing."""

_USE_OF: Final = {name: use for use, names in _USES.items() for name in names.split()}
_parse_place = re.compile(r"(?:@(\d+)|([A-Z]+)([+-]\d+)|\?)(?:\.\.(-?\d+)|/(\d+)|(#))?").fullmatch


class KeySpec(NamedTuple):
    """One specification. `keyword` is empty where the keys begin at `start` itself; `start` 0: unknown.

    `last` counts from the first key, or from the end if negative. `is_counted`: the argument at `start` says
    how many keys follow it. `limit` 2: only the first half of the rest are keys.
    """

    flags: tuple[str, ...]
    keyword: str
    start: int
    last: int
    step: int
    limit: int
    is_counted: bool
    notes: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether first key, last key and step say all there is."""
        return bool(self.start) and not self.keyword and not self.is_counted

    @property
    def is_channel(self) -> bool:
        """Whether what it finds are no keys."""
        return "not_key" in self.flags

    def find(self, argv: list[bytes]) -> list[int]:
        """Return the positions of the keys in a call. Errors: ValueError, if the call makes no sense."""
        first = self._begin(argv)
        if not first:
            return []
        if self.is_counted:
            count = int(argv[first])
            first += 1
            last = first + count - 1
        elif self.last >= 0:
            last = first + self.last
        elif self.limit:
            last = first + (len(argv) - first) // self.limit + self.last
        else:
            last = len(argv) + self.last
        return list(range(first, min(last, len(argv) - 1) + 1, self.step))

    def _begin(self, argv: list[bytes]) -> int:
        if not self.keyword:
            return self.start if self.start < len(argv) else 0
        start = self.start if self.start > 0 else len(argv) + self.start
        places = range(start, len(argv) - 1) if self.start > 0 else range(start, 0, -1)
        wanted = self.keyword.encode()
        return next((at + 1 for at in places if argv[at].upper() == wanted), 0)

    def reply(self) -> dict[bytes, Any]:
        """Return the specification as COMMAND INFO shows it."""
        begin: Any = (b"unknown", {})
        find: Any = (b"unknown", {})
        if self.keyword:
            begin = b"keyword", {b"keyword": self.keyword.encode(), b"startfrom": self.start}
        elif self.start:
            begin = b"index", {b"index": self.start}
        if self.is_counted:
            find = b"keynum", {b"keynumidx": 0, b"firstkey": 1, b"keystep": self.step}
        elif self.start:
            find = b"range", {b"lastkey": self.last, b"keystep": self.step, b"limit": self.limit}
        notes = {b"notes": self.notes.encode()} if self.notes else {}
        return notes | {
            b"flags": Distinct.words(self.flags),
            b"begin_search": {b"type": begin[0], b"spec": begin[1]},
            b"find_keys": {b"type": find[0], b"spec": find[1]},
        }


@cache
def key_specs(record: Command) -> tuple[KeySpec, ...]:
    """Return the specifications of a command's keys."""
    specs = enumerate(_specs(record))
    return tuple(spec._replace(notes=_NOTES.get((record.name, at), "")) for at, spec in specs)


def _specs(record: Command) -> tuple[KeySpec, ...]:
    written = _SPECS.get(record.name)
    if written is not None:
        return tuple(map(_parse, written))
    first, last, step = record.keys
    if not first:
        return ()
    use = _USE_OF.get(record.name, "RO access" if "readonly" in record.flags else "RW access update")
    return (KeySpec(tuple(use.split()), "", first, last - first if last >= 0 else last, step, 0, False),)


def _parse(written: str) -> KeySpec:
    *flags, place = written.split()
    match = _parse_place(place)
    assert match is not None, written
    start, keyword, keyword_start, last, limit, counted = match.groups()
    return KeySpec(
        tuple(flags),
        keyword or "",
        int(start or keyword_start or 0),
        -1 if limit else int(last or 0),
        1,
        int(limit or 0),
        bool(counted),
    )


def plain_keys(record: Command) -> Keys:
    """Return the range of keys that clients who know nothing of specifications go by."""
    if record.keys.first:
        return record.keys
    spec = next((spec for spec in key_specs(record) if spec.is_plain), None)
    if spec is None:
        return NO_KEYS
    return Keys(spec.start, spec.start + spec.last if spec.last >= 0 else spec.last, spec.step)


def is_movable(record: Command) -> bool:
    """Tell whether that range does not say it all."""
    return any(not spec.is_plain for spec in key_specs(record))


def takes_keys(record: Command) -> bool:
    """Tell whether a command has keys, channels not counted."""
    specs = key_specs(record)
    return any(not spec.is_channel for spec in specs) or (not specs and record.find_keys is not None)


def are_in_place(record: Command, argv: list[bytes]) -> bool:
    """Tell whether there is a key where each specification has one without a word before it."""
    return all(spec.find(argv) for spec in key_specs(record) if spec.is_plain)


def key_uses(record: Command, argv: list[bytes]) -> list[tuple[int, tuple[str, ...]]]:
    """Return the positions of the keys of a call, each with what is done to it. Errors: ValueError as
    `FindKeys`; IndexError."""
    uses: dict[int, tuple[str, ...]] = {}
    unplaced: tuple[str, ...] = ("RW", "access", "update")
    for spec in key_specs(record):
        if not spec.start or "incomplete" in spec.flags:
            unplaced = spec.flags
        for at in spec.find(argv):
            uses.setdefault(at, spec.flags)
    return [(at, uses_in_call(record, argv, uses.get(at, unplaced))) for at in key_positions(record, argv)]


def keys_with_uses(record: Command, argv: list[bytes]) -> list[tuple[bytes, tuple[str, ...]]]:
    """The same with the keys themselves."""
    return [(argv[at], uses) for at, uses in key_uses(record, argv)]


def uses_in_call(record: Command, argv: list[bytes], flags: tuple[str, ...]) -> tuple[str, ...]:
    """Return what `flags` of a specification mean in this very call: some uses depend on its options."""
    if "variable_flags" not in flags:
        return tuple(flag for flag in flags if flag != "incomplete")
    if record.name == "SET":
        return ("RW", "access", "update") if b"GET" in map(bytes.upper, argv[3:]) else ("OW", "update")
    at = 2
    while at < len(argv):
        length = _READING_OPERATIONS.get(argv[at].upper(), 0)
        if not length or at + length > len(argv):
            return ("RW", "access", "update")
        at += length
    return ("RO", "access")
