"""Commands on HyperLogLogs."""

from __future__ import annotations

import random
from typing import Any, Final

from lamina.server.client import Client
from lamina.server.errors import CommandError
from lamina.server.registry import ALL_KEYS, ONE_KEY, Keys, command
from lamina.server.replies import OK, Simple
from lamina.server.types import hllregisters, hyperloglogs
from lamina.server.types.hyperloglogs import DENSE, SPARSE

_NO_KEY = CommandError(b"ERR The specified key does not exist")
_NOT_SPARSE = CommandError(b"ERR HLL encoding is not sparse")

_FORMS: Final = {DENSE: Simple(b"dense"), SPARSE: Simple(b"sparse")}

_TESTED_ELEMENTS: Final = 100_000
_TESTED_ERROR_MAX: Final = 0.05
"""Six standard errors: one in a thousand million tests of sound code would fail."""


@command(
    "PFADD",
    arity=-2,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="2.8.9",
    complexity="O(1) for each element",
)
def pfadd(client: Client, argv: list[bytes]) -> int:
    """Add elements to a HyperLogLog; returns 1 if that may have changed its estimate, else 0.

    PFADD key [element [element ...]]
    """
    return 1 if hyperloglogs.add(client.keyspace, argv[1], argv[2:]) else 0


@command(
    "PFCOUNT",
    arity=-2,
    flags="readonly may_replicate",
    keys=ALL_KEYS,
    since="2.8.9",
    complexity="O(1) for one key that has not changed since it was counted, O(N) for N keys",
)
def pfcount(client: Client, argv: list[bytes]) -> int:
    """Estimate how many different elements HyperLogLogs have seen together.

    PFCOUNT key [key ...]
    """
    if len(argv) == 2:
        return hyperloglogs.count(client.keyspace, argv[1])
    return hyperloglogs.count_union(client.keyspace, argv[1:])


@command(
    "PFMERGE",
    arity=-2,
    flags="write denyoom",
    keys=ALL_KEYS,
    since="2.8.9",
    complexity="O(N) for N keys",
)
def pfmerge(client: Client, argv: list[bytes]) -> Simple:
    """Merge HyperLogLogs into one.

    PFMERGE destkey [sourcekey [sourcekey ...]]
    """
    hyperloglogs.merge(client.keyspace, argv[1], argv[2:])
    return OK


@command(
    "PFDEBUG",
    arity=3,
    flags="write denyoom admin",
    keys=Keys(2, 2, 1),
    since="2.8.9",
    complexity="O(1)",
)
def pfdebug(client: Client, argv: list[bytes]) -> Any:
    """Show the inside of a HyperLogLog: GETREG, DECODE, ENCODING; or make it dense: TODENSE.

    PFDEBUG subcommand key
    """
    keyspace, key = client.keyspace, argv[2]
    value = keyspace.find(key)
    if value is None:
        raise _NO_KEY
    text = hyperloglogs.text_of(keyspace, value)
    form = hyperloglogs.form(text)
    subcommand = argv[1].upper()
    if subcommand == b"GETREG":
        return list(hyperloglogs.registers(hyperloglogs.make_dense(keyspace, key, value, text)))
    if subcommand == b"DECODE":
        if form != SPARSE:
            raise _NOT_SPARSE
        return hyperloglogs.describe_runs(text)
    if subcommand == b"ENCODING":
        return _FORMS[form]
    if subcommand == b"TODENSE":
        hyperloglogs.make_dense(keyspace, key, value, text)
        return 1 if form == SPARSE else 0
    # To Redis it is a C string: a NUL ends it.
    raise CommandError(b"ERR Unknown PFDEBUG subcommand '%b'" % argv[1].split(b"\0", 1)[0])


@command("PFSELFTEST", arity=1, flags="admin", since="2.8.9", complexity="O(1)")
def pfselftest(client: Client, argv: list[bytes]) -> Simple:
    """Test the registers of HyperLogLogs, and how far their estimates are off.

    PFSELFTEST
    """
    registers = bytes(random.choices(range(64), k=hllregisters.COUNT))
    if hllregisters.unpack(hllregisters.pack(registers)) != registers:
        raise CommandError(b"TESTFAILED Registers do not come back from their packed form")
    seen = bytearray(hllregisters.COUNT)
    start = random.getrandbits(48)
    for number in range(1, _TESTED_ELEMENTS + 1):
        index, value = hyperloglogs.position((start + number).to_bytes(8, "little"))
        if value > seen[index]:
            seen[index] = value
        if number in (1_000, 10_000, _TESTED_ELEMENTS):
            found = hllregisters.estimate(hllregisters.histogram(bytes(seen)))
            if abs(found - number) > number * _TESTED_ERROR_MAX:
                raise CommandError(
                    b"TESTFAILED Too big error. card:%d abserr:%d" % (number, abs(found - number))
                )
    return OK
