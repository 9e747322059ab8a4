"""Two servers' users, side by side.

Redis 7.2 shows rules about commands as they were given, 7.0 what it makes of them. What is shown is compared
in another way, then: given back to the same server, it must make the same user.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from harness.compat import Pair
from harness.resp import Reply, RespClient, frozen

_EVERYTHING = ("on", "nopass", "allkeys", "allchannels", "allcommands")


def forget_users(client: RespClient) -> None:
    """Leave nobody but the default user, who may do everything."""
    client.ok("ACL", "SETUSER", "default", "reset", *_EVERYTHING)
    names = [name for name in client.ok("ACL", "USERS") if name != b"default"]
    if names:
        client.ok("ACL", "DELUSER", *names)
    client.ok("ACL", "LOG", "RESET")


@pytest.fixture
def users(pair: Pair) -> Iterator[Pair]:
    """Give the two servers without users, and forget those that the test makes."""
    pair.both(forget_users)
    yield pair
    for server in pair.servers:
        with server.client() as client:
            forget_users(client)


@pytest.fixture
def other(users: Pair) -> Iterator[Pair]:
    """Give one more client of the two servers."""
    other = Pair(*users.servers, protocol=users.protocol)
    yield other
    other.close()


def run(pair: Pair, text: str) -> None:
    """Run commands, one a line, quoted as in a shell."""
    for line in text.strip().splitlines():
        pair(*shlex.split(line))


def known(reply: Reply) -> Any:
    """Return what GETUSER or LIST says and both versions say alike: without rules about commands."""
    if isinstance(reply, bytes):
        return [
            word for word in reply.split() if word != b"sanitize-payload" and word[:1] not in (b"+", b"-")
        ]
    if isinstance(reply, dict):
        reply = [part for pair in reply.items() for part in pair]
    if not isinstance(reply, list | set | tuple):
        return reply
    items = [known(item) if isinstance(item, list | dict | tuple) else item for item in reply]
    if b"commands" in items:
        items[items.index(b"commands") + 1] = None
    if b"flags" in items:
        at = items.index(b"flags") + 1
        items[at] = [
            flag for flag in map(frozen, items[at]) if flag not in (b"sanitize-payload", "sanitize-payload")
        ]
    return items


def listed(reply: Any) -> list[Any]:
    """Return what LIST says and both versions say alike."""
    return list(map(known, reply))


def show(pair: Pair, name: str) -> None:
    """Compare what is shown of a user; given back, it makes the same user on either server."""
    pair.by(known, "ACL", "GETUSER", name)
    shown = line_of(pair.tested, name)
    copy = f"{name}-copy"
    for client in (pair.reference, pair.tested):
        client.ok("ACL", "SETUSER", copy, "reset", *shown)
        assert _settled(line_of(client, copy)) == _settled(line_of(client, name))
        client.ok("ACL", "DELUSER", copy)


def line_of(client: RespClient, name: str) -> list[bytes]:
    """Return the words that ACL LIST has of a user."""
    lines = [line.split(b" ")[1:] for line in client.ok("ACL", "LIST")]
    return next(words[1:] for words in lines if words[0] == name.encode())


def _settled(words: list[bytes]) -> list[bytes]:
    """Add the flag that 7.0 shows after `reset` only, and leave out the case of first arguments, which means
    nothing."""
    at = 2 if b"nopass" in words else 1
    if not any(word.endswith(b"sanitize-payload") for word in words):
        words = [*words[:at], b"sanitize-payload", *words[at:]]
    return [word.lower() if word[:1] in (b"+", b"-") else word for word in words]
