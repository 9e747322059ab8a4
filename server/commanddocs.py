"""What COMMAND INFO and COMMAND DOCS say of a command, made from its record in the registry.

The tables here are Redis's facts about commands that the declarations do not hold: hints to clients that send
one command to many nodes, and what has been superseded by what.
"""

from __future__ import annotations

from typing import Any, Final

from lamina.server.aclcategories import categories_of
from lamina.server.keyspecs import is_movable, key_specs, plain_keys
from lamina.server.registry import Command
from lamina.server.replies import Distinct
from lamina.server.syntaxes import parse_syntax

FLAG_ORDER: Final = (
    "write readonly denyoom admin pubsub noscript blocking loading stale skip_monitor skip_slowlog asking"
    " fast no_auth no_mandatory_keys no_async_loading no_multi movablekeys allow_busy".split()
)
"""Flags that are shown, in the order in which they are. May_replicate and dangerous are not."""

_TIPS: Final = {
    "nondeterministic_output": (
        "CLIENT|INFO CLIENT|LIST CLUSTER|BUMPEPOCH CLUSTER|COUNT-FAILURE-REPORTS CLUSTER|GETKEYSINSLOT "
        "CLUSTER|INFO CLUSTER|LINKS CLUSTER|MYSHARDID CLUSTER|NODES CLUSTER|REPLICAS CLUSTER|SHARDS "
        "CLUSTER|SLAVES CLUSTER|SLOTS DUMP FUNCTION|STATS HRANDFIELD HSCAN INFO LASTSAVE "
        "LATENCY|DOCTOR LATENCY|GRAPH LATENCY|HISTOGRAM LATENCY|HISTORY LATENCY|LATEST "
        "MEMORY|DOCTOR MEMORY|MALLOC-STATS MEMORY|STATS "
        "MIGRATE OBJECT|ENCODING OBJECT|FREQ OBJECT|IDLETIME OBJECT|REFCOUNT PTTL RANDOMKEY SCAN "
        "SLOWLOG|GET SLOWLOG|LEN SPOP SRANDMEMBER SSCAN TIME TTL XADD XAUTOCLAIM XCLAIM XINFO|CONSUMERS "
        "XPENDING XTRIM ZRANDMEMBER ZSCAN"
    ),
    "nondeterministic_output_order": (
        "COMMAND COMMAND|DOCS COMMAND|INFO COMMAND|LIST FUNCTION|LIST HGETALL HKEYS HVALS KEYS "
        "MODULE|LIST SDIFF SINTER SMEMBERS SUNION"
    ),
    "request_policy:all_nodes": (
        "ACL|DELUSER ACL|SAVE ACL|SETUSER CLIENT|SETINFO CLIENT|SETNAME CONFIG|RESETSTAT CONFIG|REWRITE "
        "CONFIG|SET LATENCY|DOCTOR LATENCY|GRAPH LATENCY|HISTOGRAM LATENCY|HISTORY LATENCY|LATEST "
        "LATENCY|RESET SCRIPT|FLUSH SCRIPT|LOAD SLOWLOG|GET SLOWLOG|LEN SLOWLOG|RESET"
    ),
    "request_policy:all_shards": (
        "DBSIZE FLUSHALL FLUSHDB FUNCTION|DELETE FUNCTION|FLUSH FUNCTION|KILL FUNCTION|LOAD "
        "FUNCTION|RESTORE FUNCTION|STATS INFO KEYS MEMORY|DOCTOR MEMORY|MALLOC-STATS MEMORY|PURGE "
        "MEMORY|STATS PING RANDOMKEY SCRIPT|EXISTS SCRIPT|KILL WAIT WAITAOF"
    ),
    "request_policy:multi_shard": "DEL EXISTS MGET MSET TOUCH UNLINK",
    "request_policy:special": "SCAN",
    "response_policy:agg_logical_and": "SCRIPT|EXISTS",
    "response_policy:agg_min": "WAIT WAITAOF",
    "response_policy:agg_sum": "DBSIZE DEL EXISTS LATENCY|RESET SLOWLOG|LEN TOUCH UNLINK",
    "response_policy:all_succeeded": (
        "ACL|DELUSER ACL|SAVE ACL|SETUSER CLIENT|SETINFO CLIENT|SETNAME CONFIG|RESETSTAT CONFIG|REWRITE "
        "CONFIG|SET FLUSHALL FLUSHDB FUNCTION|DELETE FUNCTION|FLUSH FUNCTION|LOAD FUNCTION|RESTORE "
        "MEMORY|PURGE MSET PING SCRIPT|FLUSH SCRIPT|LOAD SLOWLOG|RESET"
    ),
    "response_policy:one_succeeded": "FUNCTION|KILL SCRIPT|KILL",
    "response_policy:special": (
        "FUNCTION|STATS INFO LATENCY|DOCTOR LATENCY|GRAPH LATENCY|HISTOGRAM LATENCY|HISTORY "
        "LATENCY|LATEST MEMORY|DOCTOR MEMORY|MALLOC-STATS MEMORY|STATS RANDOMKEY SCAN"
    ),
}
"""Commands by the hint they have for clients that speak to many nodes."""

_DEPRECATED: Final = {
    "BRPOPLPUSH": ("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments"),
    "CLUSTER|SLAVES": ("5.0.0", "`CLUSTER REPLICAS`"),
    "CLUSTER|SLOTS": ("7.0.0", "`CLUSTER SHARDS`"),
    "GEORADIUS": ("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument"),
    "GEORADIUSBYMEMBER": (
        "6.2.0",
        "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
    ),
    "GEORADIUSBYMEMBER_RO": ("6.2.0", "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments"),
    "GEORADIUS_RO": ("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument"),
    "GETSET": ("6.2.0", "`SET` with the `!GET` argument"),
    "HMSET": ("4.0.0", "`HSET` with multiple field-value pairs"),
    "PSETEX": ("2.6.12", "`SET` with the `PX` argument"),
    "QUIT": ("7.2.0", "just closing the connection"),
    "RPOPLPUSH": ("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments"),
    "SETEX": ("2.6.12", "`SET` with the `EX` argument"),
    "SETNX": ("2.6.12", "`SET` with the `NX` argument"),
    "SLAVEOF": ("5.0.0", "`REPLICAOF`"),
    "SUBSTR": ("2.0.0", "`GETRANGE`"),
    "ZRANGEBYLEX": ("6.2.0", "`ZRANGE` with the `BYLEX` argument"),
    "ZRANGEBYSCORE": ("6.2.0", "`ZRANGE` with the `BYSCORE` argument"),
    "ZREVRANGE": ("6.2.0", "`ZRANGE` with the `REV` argument"),
    "ZREVRANGEBYLEX": ("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments"),
    "ZREVRANGEBYSCORE": ("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments"),
}
"""Since when a command need not be used any more, and what to use in its place."""

_FOR_THE_SYSTEM: Final = frozenset("DEBUG PFDEBUG PFSELFTEST REPLCONF RESTORE-ASKING".split())
"""Commands that are not meant for applications."""

_TIPS_OF: Final[dict[str, list[bytes]]] = {}
for _tip, _names in _TIPS.items():
    for _name in _names.split():
        _TIPS_OF.setdefault(_name, []).append(_tip.encode())


def flags_of(record: Command) -> list[str]:
    """Return the flags of a command that are shown."""
    shown = record.flags | {"movablekeys"} if is_movable(record) else record.flags - {"movablekeys"}
    return [flag for flag in FLAG_ORDER if flag in shown]


def tips_of(record: Command) -> list[bytes]:
    """Return the hints for clients that speak to many nodes."""
    return _TIPS_OF.get(record.name, [])


def command_info(record: Command) -> list[Any]:
    """Return what COMMAND INFO says of a command."""
    return [
        record.wire_name,
        record.arity,
        Distinct.words(flags_of(record)),
        *plain_keys(record),
        Distinct.words(f"@{name}" for name in categories_of(record)),
        Distinct(tips_of(record)),
        Distinct([spec.reply() for spec in key_specs(record)]),
        Distinct([command_info(subcommand) for _, subcommand in sorted(record.subcommands.items())]),
    ]


def command_docs(record: Command) -> dict[bytes, Any]:
    """Return what COMMAND DOCS says of a command."""
    docs: dict[bytes, Any] = {
        b"summary": record.summary.encode(),
        b"since": record.since.encode(),
        b"group": record.group.encode(),
        b"complexity": record.complexity.encode(),
    }
    if record.name in _FOR_THE_SYSTEM:
        docs[b"doc_flags"] = Distinct.words(["syscmd"])
    if record.name in _DEPRECATED:
        since, replacement = _DEPRECATED[record.name]
        docs[b"doc_flags"] = Distinct.words(["deprecated"])
        docs[b"deprecated_since"] = since.encode()
        docs[b"replaced_by"] = replacement.encode()
    if record.notes:
        history = [note.partition(": ") for note in record.notes]
        docs[b"history"] = [[version.encode(), change.encode()] for version, _, change in history]
    if record.subcommands:
        docs[b"subcommands"] = {
            subcommand.wire_name: command_docs(subcommand)
            for _, subcommand in sorted(record.subcommands.items())
        }
    else:
        arguments = parse_syntax(record.syntax, record.name, len(key_specs(record)))
        if arguments:
            docs[b"arguments"] = arguments
    return docs
