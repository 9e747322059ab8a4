"""Two servers side by side: the same commands go to both, and their replies must be equal byte for byte.

    pair("SET", "a", 1)                           # asserts equality, returns the parsed reply
    pair.unordered("KEYS", "*")                   # order is not promised
    pair.pairs("HGETALL", "h")                    # field-value pairs in any order, in RESP2 and RESP3
    pair.close_to("PTTL", "a", tolerance=2000)    # numbers that depend on the clock
    pair.scan("HSCAN", "h", "MATCH", "f*")        # a whole iteration, whatever its steps
    pair.restart(kill=True)                       # the tested server alone; the connection is made again
    pair.assert_same_contents()

The first server is the reference, the second the tested one. An error must be the same error in every kind of
comparison. Where the two differ on purpose is listed in harness.differences and nowhere else.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.contents import TOLERANCE_MS, are_close, contents, problems_of
from harness.differences import explanation
from harness.resp import (
    Argument,
    ConnectionClosedError,
    ErrorReply,
    Reply,
    RespClient,
    encode,
    frozen,
    parse,
    to_bytes,
)
from harness.servers import Server

Result = TypeVar("Result")

HISTORY_SHOWN = 40
SCAN_CALLS_MAX = 100_000

_CLOSED = b"(connection closed)"
_SHOWN_BYTES = 300


class Pair:
    """Connections to two servers, one each, plus one each for looking after them."""

    def __init__(self, reference: Server, tested: Server, *, protocol: int = 2) -> None:
        self.servers = (reference, tested)
        self.protocol = protocol
        self.history: deque[str] = deque(maxlen=HISTORY_SHOWN)
        self.is_restarted = False
        self._admins = [server.client() for server in self.servers]
        self._clients = self._connect()

    def _connect(self) -> list[RespClient]:
        clients = [server.client(protocol=self.protocol) for server in self.servers]
        self._identity = clients[0].ok("CLIENT", "ID")
        return clients

    @property
    def reference(self) -> RespClient:
        """The connection to the reference."""
        return self._clients[0]

    @property
    def tested(self) -> RespClient:
        """The connection to the tested server."""
        return self._clients[1]

    def close(self) -> None:
        """Close all connections."""
        for client in (*self._admins, *self._clients):
            client.close()

    def reset(self) -> None:
        """Empty both servers and start with fresh connections."""
        for client in self._clients:
            client.close()
        for at, admin in enumerate(self._admins):
            try:
                admin.ok("FLUSHALL")
            except ConnectionError:  # a test has restarted the server by itself
                admin.close()
                self._admins[at] = self.servers[at].client()
                self._admins[at].ok("FLUSHALL")
        self._clients = self._connect()
        self.history.clear()
        self.is_restarted = False

    # Comparisons

    def __call__(self, *words: Argument) -> Reply:
        """Send a command to both and assert that the replies are the same bytes; return the parsed reply."""
        reference, tested = self._send(words)
        if reference != tested:
            self._must_be_known(words, reference, tested, "the replies differ")
        return self._parsed(reference)

    def unordered(self, *words: Argument) -> Reply:
        """Compare an array or a set whose order is not promised."""
        return self._compare(words, _elements)

    def pairs(self, *words: Argument) -> Reply:
        """Compare field-value pairs whose order is not promised: an array of both in turn, or a map."""
        return self._compare(words, _pairs)

    def type_only(self, *words: Argument) -> Reply:
        """Compare no more than the type of the reply; errors must be equal. Returns the tested reply."""
        self._compare(words, type)
        return self._last[1]

    def same_length(self, *words: Argument) -> Reply:
        """Compare how many elements there are, or how many bytes. Returns the tested reply."""
        self._compare(words, lambda reply: (type(reply), len(reply) if hasattr(reply, "__len__") else 0))
        return self._last[1]

    def close_to(self, *words: Argument, tolerance: float = 2) -> Reply:
        """Compare numbers, or an array of them, that may lie `tolerance` apart. Negative ones must be equal:
        they are answers such as "no such key", not times."""
        reference, tested = self._send(words)
        if reference != tested:
            mine, theirs = self._parsed(reference), self._parsed(tested)
            if not are_close(mine, theirs, tolerance):
                self._must_be_known(words, reference, tested, f"more than {tolerance} apart")
        return self._parsed(reference)

    def ttl(self, *words: Argument) -> Reply:
        """Compare times given in seconds (TTL, EXPIRETIME)."""
        return self.close_to(*words, tolerance=2)

    def ttl_ms(self, *words: Argument) -> Reply:
        """Compare times given in milliseconds (PTTL, PEXPIRETIME)."""
        return self.close_to(*words, tolerance=TOLERANCE_MS)

    def encoding(self, *words: Argument) -> Reply:
        """Compare OBJECT ENCODING; after a restart only that there is one, as it tells how a key was made."""
        return self.type_only(*words) if self.is_restarted else self(*words)

    def scan(self, *words: Argument) -> Reply:
        """Compare all that a SCAN, HSCAN, SSCAN or ZSCAN finds until its cursor is 0.

        The cursor is left out: scan("SCAN", "COUNT", 5), scan("ZSCAN", "z", "MATCH", "a*"). Returns the
        elements in a list without duplicates, for HSCAN and ZSCAN as pairs.
        """
        name = to_bytes(words[0]).upper()
        at = 1 if name == b"SCAN" else 2
        replies = [_scan_all(client, words, at, name in (b"HSCAN", b"ZSCAN")) for client in self._clients]
        self._note(words, f"{len(replies[0])} found" if isinstance(replies[0], set) else repr(replies[0]))
        if replies[0] != replies[1]:
            self._fail(words, repr(replies[0]).encode(), repr(replies[1]).encode(), "the scans differ")
        return sorted(replies[0]) if isinstance(replies[0], set) else replies[0]

    def random_key(self, *words: Argument) -> Reply:
        """Compare RANDOMKEY: exactly where there is at most one key to choose from."""
        size = self("DBSIZE")
        return self(*words) if isinstance(size, int) and size <= 1 else self.type_only(*words)

    def by(self, view: Callable[[Reply], Any], *words: Argument) -> Reply:
        """Compare what `view` makes of the two parsed replies."""
        return self._compare(words, view)

    def both(self, action: Callable[[RespClient], Result]) -> Result:
        """Run an action on each connection, assert that the results are equal and return one."""
        reference, tested = (action(client) for client in self._clients)
        name = getattr(action, "__name__", "action")
        self._note((name,), repr(reference))
        if reference != tested:
            self._fail((name,), repr(reference).encode(), repr(tested).encode(), "the results differ")
        return reference

    def pipeline(self, *commands: Sequence[Argument]) -> list[Reply]:
        """Send all commands at once and compare reply by reply."""
        for client in self._clients:
            client.send_raw(b"".join(map(encode, commands)))
        return [self._read_both(words) for words in commands]

    def raw(self, data: bytes, replies: int = 1) -> list[Reply]:
        """Send bytes as they are and compare as many replies; a closed connection counts as a reply."""
        for client in self._clients:
            client.send_raw(data)
        return [self._read_both((data,)) for _ in range(replies)]

    def read(self) -> Reply:
        """Compare one more reply without sending anything: a push, a message, a blocked call's reply."""
        return self._read_both(("(read)",))

    def _read_both(self, words: Sequence[Argument]) -> Reply:
        reference, tested = (_read(client) for client in self._clients)
        self._note(words, _short(reference))
        if reference != tested:
            self._must_be_known(words, reference, tested, "the replies differ")
        return self._parsed(reference)

    def _compare(self, words: Sequence[Argument], view: Callable[[Reply], Any]) -> Reply:
        reference, tested = self._send(words)
        parsed = self._last = (self._parsed(reference), self._parsed(tested))
        if reference != tested:
            is_error = any(isinstance(reply, ErrorReply) for reply in parsed)
            if is_error or _CLOSED in (reference, tested) or view(parsed[0]) != view(parsed[1]):
                self._must_be_known(words, reference, tested, "the replies differ")
        return parsed[0]

    def _send(self, words: Sequence[Argument]) -> tuple[bytes, bytes]:
        """Send to both before reading from either, so that they see their clocks at nearly the same time."""
        data = encode(words)
        for client in self._clients:
            client.send_raw(data)
        reference, tested = _read(self._clients[0]), _read(self._clients[1])
        self._note(words, _short(reference))
        return reference, tested

    def _parsed(self, raw: bytes) -> Reply:
        return None if raw is _CLOSED else parse(raw)

    def _note(self, words: Sequence[Argument], reply: str) -> None:
        self.history.append(f"{show(words)}  ->  {reply[:_SHOWN_BYTES]}")

    def _must_be_known(self, words: Sequence[Argument], reference: bytes, tested: bytes, what: str) -> None:
        why = explanation([to_bytes(word) for word in words], reference, tested)
        if why is None:
            self._fail(words, reference, tested, what)
        self.history.append(f"    (differs: {why})")

    def _fail(self, words: Sequence[Argument], reference: bytes, tested: bytes, what: str) -> None:
        __tracebackhide__ = True
        lines = [
            f"{what}: {show(words)}",
            f"  {self.servers[0].name:>13}: {_short(reference, 2000)}",
            f"  {self.servers[1].name:>13}: {_short(tested, 2000)}",
            f"  RESP{self.protocol}, commands so far (the last {HISTORY_SHOWN}):",
            *(f"    {line}" for line in self.history),
        ]
        if not self.servers[1].is_running:
            lines += ["  the tested server has ended; its log:", self.servers[1].log()[-4000:]]
        raise AssertionError("\n".join(lines))

    # The tested server alone

    def reload(self) -> None:
        """Let the tested server read its data anew (DEBUG RELOAD)."""
        self.history.append("    (tested server: DEBUG RELOAD)")
        self._admins[1].ok("DEBUG", "RELOAD")
        self.is_restarted = True

    def restart(self, *, kill: bool = False) -> None:
        """Restart the tested server's process and select the same database again.

        A transaction that has been begun would be lost: then nothing is done.
        """
        listed = self._admins[0].ok("CLIENT", "LIST", "ID", self._identity)
        facts = dict(word.split(b"=", 1) for word in listed.split())
        if facts[b"multi"] != b"-1":
            return
        self.history.append(f"    (tested server: {'killed' if kill else 'stopped'} and started)")
        for client in (self._admins[1], self._clients[1]):
            client.close()
        self.servers[1].restart(kill=kill)
        self._admins[1] = self.servers[1].client()
        self._clients[1] = self.servers[1].client(protocol=self.protocol)
        self._clients[1].ok("SELECT", facts[b"db"])
        self.is_restarted = True

    # Whole histories and contents

    def play(self, steps: Sequence[Step]) -> None:
        """Empty both, do the steps of a drawn history, and compare the contents."""
        self.reset()
        for step in steps:
            step.check(self, *step.words)
        self.assert_same_contents()

    def assert_same_contents(self) -> None:
        """Compare all databases: keys, types, values, times to live (within some seconds)."""
        reference, tested = (contents(admin) for admin in self._admins)
        problems = problems_of(reference, tested)
        if problems:
            text = "\n".join(problems[:20]).encode()
            self._fail(("contents",), b"(below)", text, "the contents differ")


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a history and how its replies are compared: a method of Pair or any other function
    that takes the pair and the command's words."""

    words: tuple[bytes, ...]
    check: Callable[..., Any] = Pair.__call__

    def __repr__(self) -> str:
        name = getattr(self.check, "__name__", "")
        return f"<{show(self.words)}>" if name == "__call__" else f"<{name}: {show(self.words)}>"


def show(words: Sequence[Argument]) -> str:
    """Return a command as people write it, long words cut."""
    return " ".join(_show_word(to_bytes(word)) for word in words)


def _show_word(word: bytes) -> str:
    if len(word) > 60:
        return f"<{len(word)} bytes {word[:20]!r}>"
    plain = word.isascii() and word.decode().isprintable() and b" " not in word and word != b""
    return word.decode() if plain else repr(word)


def _short(raw: bytes, size: int = _SHOWN_BYTES) -> str:
    return repr(raw) if len(raw) <= size else f"{raw[:size]!r}... ({len(raw)} bytes)"


def _read(client: RespClient) -> bytes:
    try:
        return client.read_raw()
    except ConnectionClosedError:
        return _CLOSED


def _elements(reply: Reply) -> Any:
    return Counter(map(frozen, reply)) if isinstance(reply, list) else reply


def _pairs(reply: Reply) -> Any:
    if isinstance(reply, list) and not (reply and isinstance(reply[0], list)):
        return Counter(zip(map(frozen, reply[::2]), map(frozen, reply[1::2])))
    return _elements(reply)


def _scan_all(client: RespClient, words: Sequence[Argument], at: int, in_pairs: bool) -> Any:
    """Return the set of what a whole iteration finds, or the first reply that is no step of one."""
    found: set[Any] = set()
    cursor: bytes = b"0"
    for _ in range(SCAN_CALLS_MAX):
        reply = client.call(*words[:at], cursor, *words[at:])
        if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list)):
            return reply
        cursor, items = reply
        found.update(zip(items[::2], items[1::2]) if in_pairs else items)
        if cursor == b"0":
            return found
    raise AssertionError(f"{show(words)}: the cursor did not come back to 0")


__all__ = ["Pair", "Step", "show"]
