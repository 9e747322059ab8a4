"""The event loop goes on while a script takes long.

Redis enters its event loop from within Lua's hook. Here that is impossible, as no loop of asyncio's may be
entered twice. So it is the other way round: scripts run in a greenlet, a stack of its own within the same
thread. When one has run for `busy-reply-threshold` ms, the hook switches back to where the handler was
called; that returns `SUSPENDED`, and the client waits like one that is blocked. From then on the script goes
on in slices of some milliseconds, one in each turn of the loop. There is no second thread: what is not a
slice of the script never sees it in the middle of a command.

Meanwhile (`is_busy`)
  - every command is answered BUSY, but for those flagged allow_busy: SCRIPT KILL, SHUTDOWN NOSAVE, some more
  - nothing is committed, as the script's turn has not ended; replies are sent nevertheless. What came earlier
    in that very turn is committed before, if the script has not written so far. If it has, those who came
    earlier are answered if none of them had written; else their replies wait for the script's end
  - nothing expires, and no other periodic work is done on the database

The greenlet lives on from one script to the next: a switch to it and back costs a microsecond, a new one ten.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, TypeVar

from greenlet import getcurrent, greenlet

from lamina.server.blocking import NOTHING, Wait, end_wait, wait_for
from lamina.server.client import BUSY
from lamina.server.errors import CommandError
from lamina.server.scripting.execution import Progress

if TYPE_CHECKING:
    from lamina.server.client import Client
    from lamina.server.server import Server

_SLICE_NS: Final = 10_000_000

_UNFINISHED: Final = object()
"""What the greenlet hands over when it will go on."""

T = TypeVar("T")


class Yielder:
    """Runs what may take long, and hands over to the loop when it does."""

    def __init__(self, server: Server, note_failure: Callable[[BaseException], CommandError]) -> None:
        self._server = server
        self._note_failure = note_failure
        """Answers for work that broke off after it had been interrupted."""
        self._greenlet: Any = None
        self._wait: Wait | None = None
        self.yield_ns = 0
        """When the script that runs has to let the loop run; 0: never."""
        self.is_busy = False
        """Whether a script has been interrupted for the loop and has not ended yet."""
        self._part: list[Client] = []
        """Clients that took part in the turn before it was interrupted."""

    def run(
        self, client: Client, work: Callable[[T], Any], argument: T, progress: Callable[[], Progress]
    ) -> Any:
        """Do a client's work, and return or raise what it does; `SUSPENDED` if it goes on by itself.

        `progress` tells, then, what the work so far has changed.
        """
        server = self._server
        if server.loop is None or getcurrent() is self._greenlet:
            return work(argument)
        if self._greenlet is None:
            self._greenlet = greenlet(_serve)
            self._greenlet.switch()
        self._greenlet.parent = getcurrent()
        outcome = self._greenlet.switch(work, argument)
        if outcome is not _UNFINISHED:
            return _settle(outcome)
        self._begin_busy(client, progress())
        suspended = wait_for(client, [], _never, timeout_ms=0)
        self._wait = client.wait
        server.loop.call_soon(self._go_on)
        return suspended

    def look_around(self, now_ns: int) -> None:
        """For the hook: let the loop run if it is time. What the script needs of the server comes back with
        it."""
        if not self.yield_ns or now_ns < self.yield_ns or getcurrent() is not self._greenlet:
            return
        server = self._server
        kept = server.denies_blocking, server.is_in_script, server.running, server.clock.now_us
        server.denies_blocking = server.is_in_script = False
        server.running = None
        self._greenlet.parent.switch(_UNFINISHED)
        server.denies_blocking, server.is_in_script, server.running, now_us = kept
        # Time stands still for a script: what has not expired when it began does not amid it.
        server.clock.now_us, server.clock.now_ms = now_us, now_us // 1000
        self.yield_ns = perf_counter_ns() + _SLICE_NS

    def _begin_busy(self, client: Client, progress: Progress) -> None:
        server = self._server
        if progress is Progress.NOTHING:
            server.end_tick()  # of those who came before: should it fail, the script has no part in it
            client.silent_from = 0
        self.is_busy = True
        server.close_gate(BUSY)
        self._part = server.flushing
        server.flushing = []
        if progress is Progress.ALONE:
            server.flushing = [other for other in self._part if other is not client]
            self._part = [client]
            server.end_tick()  # which does not commit while this is busy

    def _end_busy(self) -> None:
        server = self._server
        self.is_busy = False
        server.open_gate(BUSY)
        server.flushing = self._part + [client for client in server.flushing if client not in self._part]

    def _go_on(self) -> None:
        """Let the script run on for a slice."""
        if not self.is_busy:
            return
        outcome = self._resume()
        if outcome is _UNFINISHED:
            loop = self._server.loop
            assert loop is not None
            loop.call_soon(self._go_on)
            return
        self._conclude(outcome)

    def _resume(self) -> Any:
        self._greenlet.parent = getcurrent()
        return self._greenlet.switch()

    def _conclude(self, outcome: tuple[bool, Any]) -> None:
        """The script is over: answer, and let the turn that it is part of end."""
        server, wait = self._server, self._wait
        assert wait is not None
        self._wait = None
        self._end_busy()
        server.clock.tick()
        is_done, reply = outcome
        if not is_done:
            if isinstance(reply, CommandError):
                reply.release()
                server.note_error(reply)
                if wait.call is not None:
                    wait.call[0].failed += 1
            else:
                reply = self._note_failure(reply)
        if wait.client.wait is wait:  # else it has gone
            end_wait(wait, reply)
        server.schedule_tick()

    def abort(self) -> None:
        """The server ends: bring the script to its end, whose verdict has been spoken, and undo its turn."""
        if not self.is_busy:
            return
        while self._resume() is _UNFINISHED:
            pass
        self._wait = None
        self._end_busy()
        self._server.databases.rollback()


def _serve(_: object = None) -> None:
    """The greenlet's life: work is switched in, outcomes are switched out."""
    current = getcurrent()
    work, argument = current.parent.switch()
    while True:
        try:
            outcome = True, work(argument)
        except BaseException as error:
            outcome = False, error
        work = argument = None
        work, argument = current.parent.switch(outcome)


def _settle(outcome: tuple[bool, Any]) -> Any:
    is_done, result = outcome
    if is_done:
        return result
    raise result


def _never(key: bytes) -> object:
    return NOTHING
