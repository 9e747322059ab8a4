"""docs/commands.md: every command, made from the registry.

    python -m lamina.server.commandpage docs/commands.md

`make docs` does that; a test fails while the page is not what it would be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lamina.server import commands
from lamina.server.commanddocs import flags_of
from lamina.server.registry import Command, all_commands
from lamina.server.version import REDIS_VERSION

GROUPS: Final = commands.GROUPS
"""Importing the commands is what fills the registry."""


REDIS_COMMANDS: Final = {
    "bitmap": ("BITCOUNT BITFIELD BITFIELD_RO BITOP BITPOS GETBIT SETBIT"),
    "cluster": (
        "ASKING CLUSTER CLUSTER|ADDSLOTS CLUSTER|ADDSLOTSRANGE CLUSTER|BUMPEPOCH "
        "CLUSTER|COUNT-FAILURE-REPORTS CLUSTER|COUNTKEYSINSLOT CLUSTER|DELSLOTS CLUSTER|DELSLOTSRANGE "
        "CLUSTER|FAILOVER CLUSTER|FLUSHSLOTS CLUSTER|FORGET CLUSTER|GETKEYSINSLOT CLUSTER|HELP "
        "CLUSTER|INFO CLUSTER|KEYSLOT CLUSTER|LINKS CLUSTER|MEET CLUSTER|MYID CLUSTER|MYSHARDID "
        "CLUSTER|NODES CLUSTER|REPLICAS CLUSTER|REPLICATE CLUSTER|RESET CLUSTER|SAVECONFIG "
        "CLUSTER|SET-CONFIG-EPOCH CLUSTER|SETSLOT CLUSTER|SHARDS CLUSTER|SLAVES CLUSTER|SLOTS READONLY "
        "READWRITE"
    ),
    "connection": (
        "AUTH CLIENT CLIENT|CACHING CLIENT|GETNAME CLIENT|GETREDIR CLIENT|HELP CLIENT|ID CLIENT|INFO "
        "CLIENT|KILL CLIENT|LIST CLIENT|NO-EVICT CLIENT|NO-TOUCH CLIENT|PAUSE CLIENT|REPLY CLIENT|SETINFO "
        "CLIENT|SETNAME CLIENT|TRACKING CLIENT|TRACKINGINFO CLIENT|UNBLOCK CLIENT|UNPAUSE ECHO HELLO PING "
        "QUIT RESET SELECT"
    ),
    "generic": (
        "COPY DEL DUMP EXISTS EXPIRE EXPIREAT EXPIRETIME KEYS MIGRATE MOVE OBJECT OBJECT|ENCODING "
        "OBJECT|FREQ OBJECT|HELP OBJECT|IDLETIME OBJECT|REFCOUNT PERSIST PEXPIRE PEXPIREAT PEXPIRETIME "
        "PTTL RANDOMKEY RENAME RENAMENX RESTORE SCAN SORT SORT_RO TOUCH TTL TYPE UNLINK WAIT WAITAOF"
    ),
    "geo": (
        "GEOADD GEODIST GEOHASH GEOPOS GEORADIUS GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO GEORADIUS_RO "
        "GEOSEARCH GEOSEARCHSTORE"
    ),
    "hash": (
        "HDEL HEXISTS HGET HGETALL HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HRANDFIELD HSCAN HSET "
        "HSETNX HSTRLEN HVALS"
    ),
    "hyperloglog": ("PFADD PFCOUNT PFDEBUG PFMERGE PFSELFTEST"),
    "list": (
        "BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH LINDEX LINSERT LLEN LMOVE LMPOP LPOP LPOS LPUSH LPUSHX "
        "LRANGE LREM LSET LTRIM RPOP RPOPLPUSH RPUSH RPUSHX"
    ),
    "pubsub": (
        "PSUBSCRIBE PUBLISH PUBSUB PUBSUB|CHANNELS PUBSUB|HELP PUBSUB|NUMPAT PUBSUB|NUMSUB "
        "PUBSUB|SHARDCHANNELS PUBSUB|SHARDNUMSUB PUNSUBSCRIBE SPUBLISH SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE "
        "UNSUBSCRIBE"
    ),
    "scripting": (
        "EVAL EVALSHA EVALSHA_RO EVAL_RO FCALL FCALL_RO FUNCTION FUNCTION|DELETE FUNCTION|DUMP "
        "FUNCTION|FLUSH FUNCTION|HELP FUNCTION|KILL FUNCTION|LIST FUNCTION|LOAD FUNCTION|RESTORE "
        "FUNCTION|STATS SCRIPT SCRIPT|DEBUG SCRIPT|EXISTS SCRIPT|FLUSH SCRIPT|HELP SCRIPT|KILL "
        "SCRIPT|LOAD"
    ),
    "server": (
        "ACL ACL|CAT ACL|DELUSER ACL|DRYRUN ACL|GENPASS ACL|GETUSER ACL|HELP ACL|LIST ACL|LOAD ACL|LOG "
        "ACL|SAVE ACL|SETUSER ACL|USERS ACL|WHOAMI BGREWRITEAOF BGSAVE COMMAND COMMAND|COUNT COMMAND|DOCS "
        "COMMAND|GETKEYS COMMAND|GETKEYSANDFLAGS COMMAND|HELP COMMAND|INFO COMMAND|LIST CONFIG CONFIG|GET "
        "CONFIG|HELP CONFIG|RESETSTAT CONFIG|REWRITE CONFIG|SET DBSIZE DEBUG FAILOVER FLUSHALL FLUSHDB "
        "INFO LASTSAVE LATENCY LATENCY|DOCTOR LATENCY|GRAPH LATENCY|HELP LATENCY|HISTOGRAM "
        "LATENCY|HISTORY LATENCY|LATEST LATENCY|RESET LOLWUT MEMORY MEMORY|DOCTOR MEMORY|HELP "
        "MEMORY|MALLOC-STATS MEMORY|PURGE MEMORY|STATS MEMORY|USAGE MODULE MODULE|HELP MODULE|LIST "
        "MODULE|LOAD MODULE|LOADEX MODULE|UNLOAD MONITOR PSYNC REPLCONF REPLICAOF RESTORE-ASKING ROLE "
        "SAVE SHUTDOWN SLAVEOF SLOWLOG SLOWLOG|GET SLOWLOG|HELP SLOWLOG|LEN SLOWLOG|RESET SWAPDB SYNC "
        "TIME"
    ),
    "set": (
        "SADD SCARD SDIFF SDIFFSTORE SINTER SINTERCARD SINTERSTORE SISMEMBER SMEMBERS SMISMEMBER SMOVE "
        "SPOP SRANDMEMBER SREM SSCAN SUNION SUNIONSTORE"
    ),
    "sorted-set": (
        "BZMPOP BZPOPMAX BZPOPMIN ZADD ZCARD ZCOUNT ZDIFF ZDIFFSTORE ZINCRBY ZINTER ZINTERCARD "
        "ZINTERSTORE ZLEXCOUNT ZMPOP ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE "
        "ZRANGESTORE ZRANK ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX "
        "ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION ZUNIONSTORE"
    ),
    "stream": (
        "XACK XADD XAUTOCLAIM XCLAIM XDEL XGROUP XGROUP|CREATE XGROUP|CREATECONSUMER XGROUP|DELCONSUMER "
        "XGROUP|DESTROY XGROUP|HELP XGROUP|SETID XINFO XINFO|CONSUMERS XINFO|GROUPS XINFO|HELP "
        "XINFO|STREAM XLEN XPENDING XRANGE XREAD XREADGROUP XREVRANGE XSETID XTRIM"
    ),
    "string": (
        "APPEND DECR DECRBY GET GETDEL GETEX GETRANGE GETSET INCR INCRBY INCRBYFLOAT LCS MGET MSET MSETNX "
        "PSETEX SET SETEX SETNX SETRANGE STRLEN SUBSTR"
    ),
    "transactions": ("DISCARD EXEC MULTI UNWATCH WATCH"),
}
"""The commands of Redis 7.2 by group."""

ABSENT: Final = {
    "SENTINEL": "only a Sentinel has it, with its subcommands, and a Sentinel is another program",
}
"""Those that are in no server's table, by why."""

_TITLES: Final = {
    "bitmap": "Bitmaps",
    "cluster": "Cluster",
    "connection": "Connections",
    "generic": "Keys of any type",
    "geo": "Geography",
    "hash": "Hashes",
    "hyperloglog": "HyperLogLog",
    "list": "Lists",
    "pubsub": "Publish and subscribe",
    "scripting": "Scripts and functions",
    "server": "The server",
    "set": "Sets",
    "sorted-set": "Sorted sets",
    "stream": "Streams",
    "string": "Strings",
    "transactions": "Transactions",
}

_NOTES: Final = {
    "cluster": ("There is no cluster: all of these answer as a Redis without one does.",),
    "generic": (
        "SCAN, HSCAN, SSCAN and ZSCAN go through the elements in their order, and each is returned once.",
        "OBJECT ENCODING tells the encoding Redis would have chosen; Lamina stores a collection in one way.",
        "OBJECT IDLETIME says 0 of every key: nothing is evicted, so nobody notes when keys are used.",
        "DEL and UNLINK are the same: both take constant time for a key of any size.",
    ),
    "hash": ("The expiry of fields is that of Redis 7.4.",),
    "server": (
        "SAVE and BGSAVE write an RDB file for Redis to read; what was written is in the log anyway.",
        "BGREWRITEAOF compacts the database in the background.",
        "FLUSHALL and FLUSHDB take constant time; ASYNC and SYNC make no difference.",
        "MEMORY USAGE counts what a key takes on disk, before compression, and in the caches.",
        "LATENCY HISTOGRAM and INFO latencystats count by powers of two: percentiles are interpolated.",
        "LATENCY DOCTOR, MEMORY DOCTOR, MEMORY MALLOC-STATS, LOLWUT and the texts of HELP are Lamina's own.",
        "INFO has a section of its own, `# Lamina`, about the engine; MEMORY STATS has fields `lamina.*`.",
        "REPLICAOF NO ONE succeeds; every other wish for replication is refused. MODULE loads nothing.",
        "DEBUG has what tests of clients use: its HELP lists it.",
        "CHECKPOINT is Lamina's own: it makes a database of its own, by hard links, below `dir`.",
        "SHUTDOWN keeps everything whatever its options say; with SAVE the next start has no log to replay.",
    ),
    "string": (
        "A string above 64 KiB is stored in chunks, so that SETRANGE and APPEND cost what they write.",
    ),
}
"""What one should know who comes from Redis."""

_HEAD: Final = f"""# Commands

Made by `make docs` from the commands' declarations: do not edit. What is compared with is Redis
{REDIS_VERSION}. Names, arguments, flags, replies and errors are Redis's unless a note says otherwise.
Complexities are Lamina's: at any size, on disk.
"""


def page() -> str:
    """Return the whole page."""
    by_group: dict[str, list[Command]] = {}
    for record in all_commands():
        by_group.setdefault(record.group, []).append(record)
    parts = [_HEAD, _state(by_group), _absent()]
    for group in sorted(set(by_group) | set(REDIS_COMMANDS), key=_title):
        parts += ["\n".join(_section(group, by_group.get(group, [])))]
    return "\n".join(parts)


def _title(group: str) -> str:
    return _TITLES.get(group, group)


def missing(records: list[Command], group: str) -> list[str]:
    """Return the commands of a group that Redis has and that are not among `records`."""
    present = {record.name for record in records}
    absent = [name for name in REDIS_COMMANDS.get(group, "").split() if name not in present]
    # Of a command that is not there at all, its subcommands need no mention.
    return [name for name in absent if "|" not in name or name.partition("|")[0] not in absent]


def _state(by_group: dict[str, list[Command]]) -> str:
    lines = ["| group | of Redis's commands | beyond them |", "|---|---|---|"]
    for group in sorted(set(by_group) | set(REDIS_COMMANDS), key=_title):
        names = [name for name in REDIS_COMMANDS.get(group, "").split() if "|" not in name]
        present = {record.name for record in by_group.get(group, []) if "|" not in record.name}
        own = ", ".join(sorted(present - set(names)))
        anchor = _title(group).lower().replace(" ", "-")
        lines.append(
            f"| [{_title(group)}](#{anchor}) | {len(present & set(names))} of {len(names)} | {own} |"
        )
    return "\n".join(lines) + "\n"


def _absent() -> str:
    lines = [f"- {name} is not there: {why}." for name, why in ABSENT.items()]
    return "\n".join(lines) + "\n"


def _section(group: str, records: list[Command]) -> Iterator[str]:
    yield f"## {_title(group)}\n"
    absent = missing(records, group)
    if absent:
        yield f"Not there yet: {', '.join(name.replace('|', ' ') for name in absent)}.\n"
    notes = _NOTES.get(group, ())
    yield from (f"- {note}" for note in notes)
    if notes:
        yield ""
    if records:
        yield "| command | what it does | arity | flags | since | complexity |"
        yield "|---|---|---|---|---|---|"
        yield from (_row(record) for record in records if not record.subcommands)
        yield ""


def _row(record: Command) -> str:
    syntax = record.syntax.replace("|", "\\|")
    cells = (
        f"`{syntax}`",
        _escaped(record.summary),
        str(record.arity),
        " ".join(flags_of(record)),
        record.since,
        _escaped(record.complexity),
    )
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def main(arguments: list[str]) -> int:
    """Write the page to the file named; returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m lamina.server.commandpage FILE\n")
        return 2
    Path(arguments[0]).write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
