"""CLUSTER and what belongs to it: there is no cluster, and clients that ask are told so.

They are declared all the same: clients find out by them what they talk to, and the answer to a call with too
few arguments is another one.
"""

from __future__ import annotations

from lamina.server.client import Client
from lamina.server.errors import CommandError, misused_subcommand
from lamina.server.registry import command

NO_CLUSTER = CommandError(b"ERR This instance has cluster support disabled")

_CHANGE = "admin stale no_async_loading"
_SHOW = "stale"

_SUBCOMMANDS = (
    ("ADDSLOTS", -3, _CHANGE, "3.0.0", "slot [slot ...]"),
    ("ADDSLOTSRANGE", -4, _CHANGE, "7.0.0", "start-slot end-slot [start-slot end-slot ...]"),
    ("BUMPEPOCH", 2, _CHANGE, "3.0.0", ""),
    ("COUNT-FAILURE-REPORTS", 3, "admin stale", "3.0.0", "node-id"),
    ("COUNTKEYSINSLOT", 3, _SHOW, "3.0.0", "slot"),
    ("DELSLOTS", -3, _CHANGE, "3.0.0", "slot [slot ...]"),
    ("DELSLOTSRANGE", -4, _CHANGE, "7.0.0", "start-slot end-slot [start-slot end-slot ...]"),
    ("FAILOVER", -2, _CHANGE, "3.0.0", "[FORCE | TAKEOVER]"),
    ("FLUSHSLOTS", 2, _CHANGE, "3.0.0", ""),
    ("FORGET", 3, _CHANGE, "3.0.0", "node-id"),
    ("GETKEYSINSLOT", 4, _SHOW, "3.0.0", "slot count"),
    ("HELP", 2, "loading stale", "5.0.0", ""),
    ("INFO", 2, _SHOW, "3.0.0", ""),
    ("KEYSLOT", 3, _SHOW, "3.0.0", "key"),
    ("LINKS", 2, _SHOW, "7.0.0", ""),
    ("MEET", -4, _CHANGE, "3.0.0", "ip port [cluster-bus-port]"),
    ("MYID", 2, _SHOW, "3.0.0", ""),
    ("MYSHARDID", 2, _SHOW, "7.2.0", ""),
    ("NODES", 2, _SHOW, "3.0.0", ""),
    ("REPLICAS", 3, "admin stale", "5.0.0", "node-id"),
    ("REPLICATE", 3, _CHANGE, "3.0.0", "node-id"),
    ("RESET", -2, "admin noscript stale", "3.0.0", "[HARD | SOFT]"),
    ("SAVECONFIG", 2, _CHANGE, "3.0.0", ""),
    ("SET-CONFIG-EPOCH", 3, _CHANGE, "3.0.0", "config-epoch"),
    ("SETSLOT", -4, _CHANGE, "3.0.0", "slot (IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE)"),
    ("SHARDS", 2, "loading stale", "7.0.0", ""),
    ("SLAVES", 3, "admin stale", "3.0.0", "node-id"),
    ("SLOTS", 2, "loading stale", "3.0.0", ""),
)
"""Name, arity, flags, since, arguments."""


@command("CLUSTER", arity=-2, flags="", since="3.0.0", complexity="Depends on subcommand.")
def cluster(client: Client, argv: list[bytes]) -> object:
    """Answer that there is no cluster.

    CLUSTER <subcommand>
    """
    raise misused_subcommand(argv[1], b"cluster")


def _declare(name: str, arity: int, flags: str, since: str, arguments: str) -> None:
    def refuse(client: Client, argv: list[bytes]) -> object:
        raise NO_CLUSTER

    refuse.__doc__ = f"Answer that there is no cluster.\n\nCLUSTER {name} {arguments}"
    command(f"CLUSTER|{name}", arity=arity, flags=flags, since=since, complexity="O(1)")(refuse)


for _subcommand in _SUBCOMMANDS:
    _declare(*_subcommand)


@command("ASKING", arity=1, flags="fast", since="3.0.0", complexity="O(1)")
def asking(client: Client, argv: list[bytes]) -> object:
    """Answer that there is no cluster.

    ASKING
    """
    raise NO_CLUSTER


@command("READONLY", arity=1, flags="loading stale fast", since="3.0.0", complexity="O(1)")
def readonly(client: Client, argv: list[bytes]) -> object:
    """Answer that there is no cluster.

    READONLY
    """
    raise NO_CLUSTER


@command("READWRITE", arity=1, flags="loading stale fast", since="3.0.0", complexity="O(1)")
def readwrite(client: Client, argv: list[bytes]) -> object:
    """Answer that there is no cluster.

    READWRITE
    """
    raise NO_CLUSTER
