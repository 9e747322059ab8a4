"""The connection: AUTH, HELLO, RESET, CLIENT, protocol errors, side by side."""

from __future__ import annotations

import re
from typing import Any

import pytest

from harness.compat import Pair
from harness.resp import RespClient, Verbatim
from harness.servers import StartServer

OWN_FACTS = re.compile(rb"\$\d+\r\n\d+\.\d+\.\d+\r\n|(?<=\r\nid\r\n):\d+\r\n")
"""Version and id in the reply of HELLO."""


def without_own_facts(reply: Any) -> Any:
    """Return the reply of HELLO without version and id."""
    if isinstance(reply, list) and len(reply) == 14:
        reply = dict(zip(reply[::2], reply[1::2], strict=True))
    if isinstance(reply, dict):
        return {key: value for key, value in reply.items() if key not in (b"version", b"id")}
    return reply


def fields_of(reply: Any) -> dict[str, str]:
    """Return what CLIENT INFO says, as far as the servers can agree in it."""
    text = reply.text if isinstance(reply, Verbatim) else reply
    fields = dict(word.split("=", 1) for word in text.decode().split())
    shared = "name flags db sub psub ssub multi argv-mem events cmd user redir resp".split()
    return {name: fields[name] for name in shared}


PLAIN = [
    "PING", "PING a", "PING a b", "ECHO", "ECHO a", "ECHO a b", "SELECT x", "SELECT 16", "SELECT -1",
    "SELECT 3",
    "SELECT", "AUTH", "AUTH a", "AUTH default x", "AUTH x y", "AUTH a b c", "RESET x", "CLIENT", "CLIENT foo",
    "CLIENT GETNAME", "CLIENT SETNAME a", "CLIENT SETNAME é", "CLIENT SETNAME", "CLIENT GETNAME",
    "CLIENT ID x",
    "CLIENT KILL", "CLIENT KILL x", "CLIENT KILL 1.2.3.4:5", "CLIENT KILL ID", "CLIENT KILL ID x",
    "CLIENT KILL ID 0", "CLIENT KILL ID -1", "CLIENT KILL ID 9999999", "CLIENT KILL TYPE foo",
    "CLIENT KILL TYPE master", "CLIENT KILL TYPE slave", "CLIENT KILL USER foo",
    "CLIENT KILL ADDR x:1 LADDR y:2",
    "CLIENT KILL SKIPME foo", "CLIENT KILL ID 1 SKIPME", "CLIENT KILL ID 1 FOO x", "CLIENT LIST TYPE x",
    "CLIENT LIST ID", "CLIENT LIST ID x", "CLIENT LIST ID 9999999", "CLIENT LIST TYPE",
    "CLIENT LIST TYPE master",
    "CLIENT LIST TYPE normal x", "CLIENT LIST foo", "CLIENT INFO x", "CLIENT NO-EVICT x",
    "CLIENT NO-EVICT on",
    "CLIENT NO-EVICT OFF", "CLIENT REPLY x", "CLIENT REPLY on", "CLIENT PAUSE", "CLIENT PAUSE x",
    "CLIENT PAUSE -1",
    "CLIENT PAUSE x foo", "CLIENT PAUSE 1 foo", "CLIENT PAUSE 1 all x", "CLIENT PAUSE 0", "CLIENT PAUSE 1.5",
    "CLIENT UNPAUSE", "CLIENT UNPAUSE x", "CLIENT UNBLOCK x", "CLIENT UNBLOCK 9999999",
    "CLIENT UNBLOCK 9999999 foo",
    "CLIENT UNBLOCK x foo", "CLIENT UNBLOCK 9999999 error x", "CLIENT UNBLOCK 9999999 Timeout",
    "CLIENT CACHING yes", "CLIENT CACHING", "CLIENT GETREDIR", "CLIENT TRACKINGINFO", "HELLO x", "HELLO 1",
    "HELLO 4", "HELLO 2 foo", "HELLO 2 AUTH a", "HELLO 2 SETNAME", "HELLO 99999999999999999999", "HELLO 2.0",
]  # fmt: skip


def test_replies_and_errors(pair: Pair) -> None:
    for line in PLAIN:
        pair(*line.split())
    pair("CLIENT", "SETNAME", "a b")
    pair("CLIENT", "SETNAME", "")
    pair("CLIENT", "GETNAME")
    pair("HELLO", 3, "SETNAME", "a b")


def test_hello(pair: Pair) -> None:
    for words in (
        [],
        [2],
        [3],
        [],
        [3, "SETNAME", "me"],
        [3, "AUTH", "default", "x", "SETNAME", ""],
        [2],
        [],
    ):
        pair.by(without_own_facts, "HELLO", *words)
        pair("CLIENT", "GETNAME")
        pair("GET", "missing")


def test_client_info(pair: Pair) -> None:
    pair.by(fields_of, "CLIENT", "INFO")
    pair.pipeline(("CLIENT", "SETNAME", "me"), ("SELECT", 5), ("WATCH", "k"), ("CLIENT", "NO-EVICT", "ON"))
    pair.by(fields_of, "CLIENT", "INFO")
    pair("CLIENT", "NO-EVICT", "OFF")  # RESET does that as well since 7.2
    pair("CLIENT", "TRACKING", "ON", "BCAST")
    pair("SET", "k", 1)
    if pair.protocol == 3:
        pair.read()  # the invalidation
    pair.by(fields_of, "CLIENT", "INFO")
    pair("RESET")
    pair.by(fields_of, "CLIENT", "INFO")


def with_sorted_flags(reply: Any) -> Any:
    """Return TRACKINGINFO with the flags, a set in RESP3, in order."""
    if isinstance(reply, dict):
        return {key: sorted(value) if isinstance(value, list) else value for key, value in reply.items()}
    return reply


def test_tracking_options(pair: Pair) -> None:
    for line in (
        "foo", "on foo", "on", "on bcast", "on optin", "off", "off bcast prefix a", "on prefix a",
        "on bcast optin",
        "on optin optout", "on redirect x", "on redirect 9999999", "on redirect",
        "on redirect 9999 redirect 9999",
        "on bcast prefix", "on optin", "on optout", "on optin noloop", "off", "on optout", "on noloop", "off",
        "on bcast prefix foo prefix foobar", "on bcast prefix foo prefix foo",
        "on bcast prefix foo prefix bar",
        "on bcast prefix fo", "on bcast prefix foo", "on bcast prefix fooz", "on bcast prefix z", "on bcast",
        "on", "on bcast prefix x", "off", "on optin optout bcast", "on bcast noloop", "off x", "off",
    ):  # fmt: skip
        pair("CLIENT", "TRACKING", *line.split())
        pair.by(with_sorted_flags, "CLIENT", "TRACKINGINFO")
        pair("CLIENT", "GETREDIR")
        pair("CLIENT", "CACHING", "YES")
        pair("CLIENT", "CACHING", "NO")
        pair.by(with_sorted_flags, "CLIENT", "TRACKINGINFO")
        pair("CLIENT", "CACHING", "x")


def tracked_session(client: RespClient, other: RespClient, words: list[str]) -> list[Any]:
    """Let one client be tracked, another change keys; return all that the first hears."""
    client.ok("HELLO", 3)
    heard: list[Any] = [client.call("CLIENT", "TRACKING", *words)]
    for command in (
        ["GET", "a"], ["MGET", "b", "c", "b"], ["SET", "a", "1"], ["SET", "own", "1"], ["GET", "own"],
        ["CLIENT", "CACHING", "YES"], ["GET", "d"], ["GET", "e"], ["CLIENT", "CACHING", "NO"], ["HGETALL",
        "f"],
        ["MULTI"], ["GET", "g"], ["SET", "own", "2"], ["EXEC"],
    ):  # fmt: skip
        client.send(*command)
        # BCAST messages follow the turn, however many commands it had: wait for each reply by itself.
        while True:
            heard.append(reply := client.read())
            if not (isinstance(reply, list) and reply and reply[0] == b"invalidate"):
                break
        while not client.is_silent(0.02):
            heard.append(client.read())
    other.ok("MSET", *(word for key in "abcde" for word in (key, "2")))
    other.ok("HSET", "f", "x", "1")
    other.ok("DEL", "g", "b")
    other.ok("FLUSHALL")
    while not client.is_silent(0.1):
        heard.append(client.read())
    return heard


def in_order(reply: Any) -> Any:
    """Return an invalidation with its keys sorted: the reference has them in the order of a tree."""
    if isinstance(reply, list) and len(reply) == 2 and reply[0] == b"invalidate" and reply[1]:
        return [reply[0], sorted(reply[1])]
    return reply


@pytest.mark.parametrize(
    "words", ["on", "on noloop", "on optin", "on optout", "on bcast", "on bcast noloop", "on bcast prefix o"]
)
def test_tracking(pair: Pair, words: str) -> None:
    heard = []
    for server in pair.servers:
        with server.client() as client, server.client() as other:
            session = tracked_session(client, other, words.split())
            heard.append([in_order(reply) for reply in session])
    assert heard[0] == heard[1]


@pytest.mark.parametrize(
    "data",
    [
        b"*x\r\n", b"*2147483648\r\n", b"*1\r\n+PING\r\n", b"*1\r\n$x\r\n", b"*1\r\n$-1\r\n",
        b"*1\r\n$536870913\r\n",
        b'SET a "b\r\n', b"SET a 'b\r\n", b'SET "a"b c\r\n', b"a" * 70_000, b"*" + b"1" * 70_000,
        b"*1\r\n$" + b"1" * 70_000, b"*1\r\n\r\n$4\r\nPING\r\n", b"* 1\r\n", b"*-10\r\n*x\r\n", b"*01\r\n",
        b"*1\r\n$ 4\r\nPING\r\n", b"*1\r\n$04\r\nPING\r\n",
    ],
    ids=lambda data: repr(data[:24]),
)  # fmt: skip
def test_protocol_errors(pair: Pair, data: bytes) -> None:
    pair.raw(b"PING\r\n" + data, replies=3)


@pytest.mark.parametrize(
    "data",
    [
        b"PING\r\n", b"ping\n", b"  PING  \r\n", b"ECHO \"a\\x41\\n\\\"\"\r\n", b"ECHO 'it\\'s'\r\n",
        b"ECHO \"\"\r\n",
        b"\r\n\r\nPING\r\n", b"*0\r\nPING\r\n", b"*-1\r\nPING\r\n", b"ECHO a b\r\n",
        b"NOPE a b\r\n",
        b"ECHO \x80\xff\r\n", b"*1\r\n$4\r\nPING\r\n", b"PING\r\r\n", b"PING\t\r\n",
    ],
    ids=repr,
)  # fmt: skip
def test_inline_commands(pair: Pair, data: bytes) -> None:
    pair.raw(data + b"PING\r\n", replies=2)


SILENCE = [
    "SKIP|PING|ECHO x", "SKIP|SKIP|ECHO y|ECHO z", "SKIP|NOPE|ECHO w", "SKIP|OFF|ECHO w|ON|ECHO q",
    "OFF|PING|SKIP|ECHO y|NOPE|ON|ECHO w", "SKIP|ON|ECHO w", "OFF|ECHO y|ON", "SKIP|MULTI|ECHO a|EXEC",
    "OFF|SELECT 3|RESET|ECHO x", "OFF|GET|ON", "SKIP|GET|ECHO x",
]  # fmt: skip


@pytest.mark.parametrize("script", SILENCE)
@pytest.mark.parametrize("is_pipelined", [True, False])
def test_client_reply(pair: Pair, script: str, is_pipelined: bool) -> None:
    commands = [
        f"CLIENT REPLY {word}" if word in ("ON", "OFF", "SKIP") else word for word in script.split("|")
    ]
    lines = [f"{command}\r\n".encode() for command in [*commands, "ECHO end"]]
    for piece in [b"".join(lines)] if is_pipelined else lines:
        pair.raw(piece, replies=0)
    while pair.read() != b"end":
        pass


def test_pauses(pair: Pair) -> None:
    for words in (["WRITE"], ["ALL"], []):
        pair("CLIENT", "PAUSE", 150, *words)
        pair.pipeline(("SET", "k", 1), ("GET", "k"), ("PUBLISH", "c", "m"))
    pair("CLIENT", "PAUSE", 10_000, "WRITE")
    pair.pipeline(("GET", "k"), ("MULTI",), ("GET", "k"), ("EXEC",), ("CLIENT", "UNPAUSE"), ("SET", "k", 1))


def test_unblocking(pair: Pair) -> None:
    for words in ([], ["TIMEOUT"], ["ERROR"]):
        for client, server in zip((pair.reference, pair.tested), pair.servers, strict=True):
            number = client.ok("CLIENT", "ID")
            client.send("BLPOP", "l", 0)
            with server.client() as other:
                while b"flags=b " not in other.ok("CLIENT", "LIST", "ID", number):
                    pass
                assert other.call("CLIENT", "UNBLOCK", number, *words) == 1
                assert other.call("CLIENT", "UNBLOCK", number, *words) == 0
        pair.read()


def test_quitting(pair: Pair) -> None:
    pair.pipeline(("MULTI",), ("SET", "k", 1), ("QUIT",))
    pair.read()
    pair.reset()
    pair("EXISTS", "k")
    pair.raw(b"QUIT a b\r\nSET k 1\r\n", replies=2)


def test_authentication(start_redis: StartServer, start_lamina: StartServer) -> None:
    flags = ("--requirepass", "secret")
    servers = (start_redis(*flags), start_lamina(*flags))

    def both(data: bytes, replies: int) -> None:
        heard = []
        for server in servers:
            with RespClient(server.port) as client:
                client.send_raw(data)
                heard.append([OWN_FACTS.sub(b"", client.read_raw()) for _ in range(replies)])
        assert heard[0] == heard[1]

    both(b"PING\r\nGET\r\nNOPE\r\nCLIENT ID\r\nEXEC\r\nMULTI\r\nSELECT 99\r\n", 7)
    both(
        b"AUTH x\r\nAUTH default x\r\nAUTH x secret\r\nGET k\r\nAUTH secret\r\nGET k\r\nAUTH x\r\nGET k\r\n",
        8,
    )
    both(b"HELLO\r\nHELLO 3\r\nHELLO 3 SETNAME x\r\nHELLO 9\r\nHELLO 3 AUTH default x\r\nHELLO foo\r\n", 6)
    both(b"HELLO 3 AUTH default secret\r\nGET k\r\nRESET\r\nGET k\r\nQUIT\r\n", 5)
    both(b"*11\r\n", 1)
    both(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", 1)
