"""What is left out when commands are shown to people: passwords.

MONITOR and the slow log show commands of all clients, and those who read them must not learn secrets.
"""

from __future__ import annotations

from typing import Final

from lamina.server.registry import lookup

REDACTED: Final = b"(redacted)"

_MAY_HOLD_SECRETS = frozenset(b"AUTH HELLO ACL CONFIG MIGRATE".split())
_SECRET_PARAMETERS = frozenset(
    b"requirepass masterauth masteruser tls-key-file-pass tls-client-key-file-pass".split()
)


def redacted(argv: list[bytes]) -> list[bytes]:
    """Return argv with secrets replaced: argv itself if it holds none."""
    record = lookup(argv[0])  # rename-command may have given it another name
    name = argv[0].upper() if record is None else record.wire_name.upper()
    if name not in _MAY_HOLD_SECRETS:
        return argv
    positions = _secret_positions(name, argv)
    return [REDACTED if i in positions else argument for i, argument in enumerate(argv)]


def _secret_positions(name: bytes, argv: list[bytes]) -> set[int]:
    subcommand = argv[1].upper() if len(argv) > 1 else b""
    if name == b"AUTH":
        return set(range(1, len(argv)))
    if name == b"HELLO":
        return _after_option(argv, 2, {b"AUTH": 2})
    if name == b"MIGRATE":
        return _after_option(argv, 6, {b"AUTH": 1, b"AUTH2": 2})
    if name == b"ACL" and subcommand == b"SETUSER":
        return set(range(2, len(argv)))
    if name == b"CONFIG" and subcommand == b"SET":
        return {i + 1 for i in range(2, len(argv), 2) if argv[i].lower() in _SECRET_PARAMETERS}
    return set()


def _after_option(argv: list[bytes], start: int, counts: dict[bytes, int]) -> set[int]:
    """Return the positions of the arguments of options that stand complete in argv from `start` on."""
    positions: set[int] = set()
    i = start
    while i < len(argv):
        count = counts.get(argv[i].upper(), 0)
        if i + count < len(argv):
            positions.update(range(i + 1, i + 1 + count))
        i += 1 + count
    return positions
