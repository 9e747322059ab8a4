"""Scripts that take long: others are answered meanwhile, and the script can be ended."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.resp import ErrorReply, RespClient
from harness.servers import Server, StartServer, start_lamina

__all__ = ["start_lamina"]

FOREVER = "while true do end"
LONG = "local i = 0 while i < 3e7 do i = i + 1 end "

STUBBORN = [
    FOREVER,
    "while true do pcall(function() while true do end end) end",
    "while true do xpcall(function() while true do end end, function() end) end",
    "while true do pcall(error) end",
    "coroutine.wrap(function() while true do end end)()",
    "while true do pcall(coroutine.wrap(function() while true do end end)) end",
    "while true do coroutine.wrap(function() end)() end",
    "while true do redis.call('GET', 'a') end",
    "while true do redis.pcall('nope') end",
    "local function f() return f() end while true do pcall(f) end",
    "while true do pcall(load, function() while true do end end) end",
    "while true do pcall(string.gsub, string.rep('x', 100), '.', function() while true do end end) end",
    "table.sort({1, 2, 3}, function() while true do end end)",
    "xpcall(function() while true do end end, function() while true do end end)",
    "local function f() f() end while true do pcall(f) end",
    "local function f() return xpcall(f, f) end while true do f() end",
    "xpcall(coroutine.wrap(function() while true do end end), function() while true do end end)",
    "local t = {} for i = 1, 1e5 do t[i] = i end while true do cjson.encode(t) end",
    "local t = {} for i = 1, 1e5 do t[i] = i end while true do pcall(cmsgpack.pack, t) end",
    "local s = string.rep('[1],', 1e5) while true do pcall(cjson.decode, '[' .. s .. '1]') end",
    "local t = {} pcall(function() while true do t[#t + 1] = {} end end) while true do pcall(error) end",
]


class Running:
    """A call that goes on in a thread of its own."""

    def __init__(self, client: RespClient, *words: Any) -> None:
        self.client = client
        self.reply: Any = None
        self._thread = threading.Thread(target=self._call, args=words)
        self._thread.start()

    def _call(self, *words: Any) -> None:
        try:
            self.reply = self.client.call(*words)
        except ConnectionError as error:
            self.reply = error

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> Any:
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()
        return self.reply


class Clients:
    """The clients of a server, which are closed when the test ends."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._stack = contextlib.ExitStack()

    def client(self) -> RespClient:
        return self._stack.enter_context(self.server.client(timeout_s=60))

    def call(self, *words: Any) -> Running:
        return Running(self.client(), *words)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def clients(start_lamina: StartServer) -> Iterator[Clients]:
    clients = Clients(start_lamina("--busy-reply-threshold", "50", "--enable-debug-command", "yes"))
    yield clients
    clients.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_busy(client: RespClient) -> bool:
    reply = client.call("PING")
    return isinstance(reply, ErrorReply) and reply.code == "BUSY"


def error_of(reply: Any) -> str:
    assert isinstance(reply, ErrorReply), reply
    return reply.text


@pytest.mark.parametrize("script", STUBBORN)
def test_every_script_can_be_killed(clients: Clients, script: str) -> None:
    other = clients.client()
    running = clients.call("EVAL", script, 0)
    until(lambda: is_busy(other))
    assert other.ok("SCRIPT", "KILL") == "OK"
    reply = running.wait()
    assert error_of(reply).startswith("ERR Script killed by user with SCRIPT KILL...")
    assert other.ok("PING") == "PONG"
    assert running.client.ok("EVAL", "return 1", 0) == 1


NESTED = {
    "pcall": "local function f(n) if n > 0 then return pcall(f, n - 1) end"
    " while true do pcall(function() while true do end end) end end f(ARGV[1])",
    "metamethods": "local function get(t, n) if n > 0 then return t[n - 1] end while true do end end"
    " local t = setmetatable({}, {__index = get})"
    " while true do pcall(function() return t[tonumber(ARGV[1])] end) end",
    "coroutines": "local function f(n) if n > 0 then return coroutine.resume(coroutine.create(f), n - 1) end"
    " while true do coroutine.resume(coroutine.create(function() while true do end end)) end end f(ARGV[1])",
}


@pytest.mark.parametrize("what", NESTED)
def test_scripts_are_killed_where_lua_has_no_room_for_the_hook(clients: Clients, what: str) -> None:
    """Lua nests some 200 calls of C. A script may go on where there is none left for who looks after it."""
    other = clients.client()
    for depth in range(185, 200):
        running = clients.call("EVAL", NESTED[what], 0, depth)
        while running.is_running and not is_busy(other):
            time.sleep(0.01)
        killed = other.call("SCRIPT", "KILL")
        assert killed == "OK" or killed.code == "NOTBUSY"
        running.wait()
        running.client.close()


def test_a_script_can_be_killed_while_its_reply_is_made(clients: Clients) -> None:
    other = clients.client()
    running = clients.call("EVAL", "local t = {} for i = 1, 1e6 do t[i] = i end return t", 0)
    until(lambda: is_busy(other))
    time.sleep(0.05)
    killed = other.call("SCRIPT", "KILL")
    reply = running.wait()
    assert len(reply) == 1_000_000 if isinstance(killed, ErrorReply) else error_of(reply)
    # Nothing of it is left: neither in who is compiled next, nor in who runs.
    assert running.client.ok("EVAL", "local n = 0 for i = 1, 1000 do n = n + i end return {n}", 0) == [500500]


def test_a_coroutine_that_was_killed_may_run_again(clients: Clients) -> None:
    other = clients.client()
    code = (
        "local c redis.register_function('f', function() c = c or coroutine.create(function()"
        " while true do pcall(function() while true do end end) coroutine.yield(1) end end)"
        " return {coroutine.resume(c)} end)"
    )
    other.ok("FUNCTION", "LOAD", f"#!lua name=l\n{code}")
    running = clients.call("FCALL", "f", 0)
    until(lambda: is_busy(other))
    assert other.ok("FUNCTION", "KILL") == "OK"
    running.wait()
    again = clients.call("FCALL", "f", 0)
    until(lambda: is_busy(other) or not again.is_running)
    other.call("FUNCTION", "KILL")
    again.wait()
    assert other.ok("EVAL", "local n = 0 for i = 1, 1000 do n = n + i end return n", 0) == 500500


def test_others_are_served_meanwhile(clients: Clients) -> None:
    other = clients.client()
    other.ok("SET", "a", "before")
    running = clients.call("EVAL", LONG + "return redis.call('GETSET', 'a', 'after')", 0)
    until(lambda: is_busy(other))
    assert is_busy(clients.client())  # connections are accepted
    assert error_of(other.call("GET", "a")).startswith(
        "BUSY Redis is busy running a script. You can only call SCRIPT"
    )
    assert error_of(other.call("FUNCTION", "STATS")).startswith("BUSY")
    assert error_of(other.call("FUNCTION", "KILL")).startswith("BUSY")
    assert error_of(other.call("SHUTDOWN")).startswith("BUSY")
    assert other.ok("MULTI") == "OK"
    assert error_of(other.call("GET", "a")).startswith("BUSY")
    assert error_of(other.call("EXEC")).startswith("EXECABORT")
    assert running.wait() == b"before"
    assert other.ok("GET", "a") == b"after"


def test_who_has_written_is_not_killed(clients: Clients) -> None:
    other = clients.client()
    running = clients.call("EVAL", f"redis.call('SET', 'n', 1) {LONG} return redis.call('INCR', 'n')", 0)
    until(lambda: is_busy(other))
    assert error_of(other.call("SCRIPT", "KILL")).startswith("UNKILLABLE")
    assert running.wait() == 2
    assert other.ok("GET", "n") == b"2"


def test_functions_have_a_kill_of_their_own(clients: Clients) -> None:
    other = clients.client()
    other.ok("FUNCTION", "LOAD", f"#!lua name=l\nredis.register_function('f', function() {FOREVER} end)")
    running = clients.call("FCALL", "f", 1, "k", "v")
    until(lambda: is_busy(other))
    assert "FUNCTION KILL" in error_of(other.call("PING"))
    stats = other.ok("FUNCTION", "STATS")
    assert stats[1][:4] == [b"name", b"f", b"command", [b"FCALL", b"f", b"1", b"k", b"v"]]
    assert stats[1][5] >= 50
    assert "FUNCTION KILL" in error_of(other.call("SCRIPT", "KILL"))
    assert other.ok("FUNCTION", "KILL") == "OK"
    assert error_of(running.wait()).startswith("ERR Script killed by user")


def test_a_transaction_with_a_script_is_one(clients: Clients) -> None:
    other, caller = clients.client(), clients.client()
    caller.ok("MULTI")
    caller.ok("SET", "a", 1)
    caller.ok("EVAL", LONG + "return redis.call('INCR', 'a')", 0)
    caller.ok("SET", "b", 1)
    running = Running(caller, "EXEC")
    until(lambda: is_busy(other))
    assert running.wait() == ["OK", 2, "OK"]
    assert other.ok("MGET", "a", "b") == [b"2", b"1"]


def test_what_the_caller_has_sent_since_waits(clients: Clients) -> None:
    caller, other = clients.client(), clients.client()
    script = LONG + "return 'done'"
    words = [b"EVAL", script.encode(), b"0"]
    wire = b"*3\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    caller.send_raw(b"*1\r\n$4\r\nPING\r\n" + wire + b"*1\r\n$4\r\nPING\r\n")
    until(lambda: is_busy(other))
    assert [caller.read() for _ in range(3)] == ["PONG", b"done", "PONG"]


def test_a_caller_that_goes_leaves_its_script_running(clients: Clients) -> None:
    other = clients.client()
    caller = clients.client()
    words = [b"EVAL", (LONG + "return redis.call('SET', 'done', 1)").encode(), b"0"]
    caller.send_raw(b"*3\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
    until(lambda: is_busy(other))
    caller.close()
    until(lambda: not is_busy(other))
    assert other.ok("GET", "done") == b"1"


def test_shutdown_nosave_leaves_nothing_half_done(clients: Clients) -> None:
    other = clients.client()
    other.ok("SET", "a", "before")
    running = clients.call("EVAL", "redis.call('SET', 'a', 'half') " + FOREVER, 0)
    until(lambda: is_busy(other))
    other.send_raw(b"*2\r\n$8\r\nSHUTDOWN\r\n$6\r\nNOSAVE\r\n")
    running.wait()
    assert clients.server.wait() == 0
    clients.server.start()
    assert clients.client().ok("GET", "a") == b"before"


@pytest.mark.parametrize("first", [[], ["SET", "a", "half"]])
def test_a_kill_leaves_nothing_of_a_transaction(clients: Clients, first: list[str]) -> None:
    other, caller = clients.client(), clients.client()
    other.ok("SET", "a", "before")
    caller.ok("MULTI")
    if first:
        caller.ok(*first)
    caller.ok("EVAL", FOREVER, 0)
    running = Running(caller, "EXEC")
    until(lambda: is_busy(other))
    clients.server.kill()
    running.wait()
    clients.server.start()
    assert clients.client().ok("GET", "a") == b"before"


def test_a_kill_leaves_nothing_half_done(clients: Clients) -> None:
    other = clients.client()
    other.ok("SET", "a", "before")
    running = clients.call("EVAL", "redis.call('SET', 'a', 'half') " + FOREVER, 0)
    until(lambda: is_busy(other))
    clients.server.kill()
    running.wait()
    clients.server.start()
    assert clients.client().ok("GET", "a") == b"before"


def test_who_came_in_the_same_turn_is_answered(clients: Clients) -> None:
    """All arrive at once while the server is held up. Which of them come before the script, that has written
    and takes long, is the system's choice."""
    other, caller = clients.client(), clients.client()
    readers = [clients.client() for _ in range(8)]
    other.send("DEBUG", "SLEEP", 0.3)
    time.sleep(0.1)
    for reader in readers[:4]:
        reader.send("GET", "a")
    caller.send("EVAL", "redis.call('SET', 'a', 'half') " + FOREVER, 0)
    for reader in readers[4:]:
        reader.send("GET", "a")
    assert other.read() == "OK"
    replies = [reader.read(timeout_s=20) for reader in readers]
    assert all(reply is None or error_of(reply).startswith("BUSY") for reply in replies)
    assert error_of(other.call("SCRIPT", "KILL")).startswith("UNKILLABLE")
    clients.server.kill()


def test_without_a_threshold_nobody_is_served(clients: Clients) -> None:
    other = clients.client()
    other.ok("CONFIG", "SET", "lua-time-limit", 0)
    running = clients.call("EVAL", LONG + "return 1", 0)
    time.sleep(0.05)
    assert other.ok("PING") == "PONG"
    assert running.wait() == 1


def test_clients_that_wait_wait_on(clients: Clients) -> None:
    other = clients.client()
    waiting = clients.call("BLPOP", "l", 20)
    until(lambda: b"blocked_clients:1\r\n" in other.ok("INFO", "clients"))
    running = clients.call("EVAL", LONG + "redis.call('RPUSH', 'l', 'x') return 1", 0)
    until(lambda: is_busy(other))
    assert running.wait() == 1
    assert waiting.wait() == [b"l", b"x"]
