"""Arguments of every command: no call, however odd, may end in an internal error or break an invariant."""

from __future__ import annotations

import logging

from hypothesis import strategies as st

from harness.calls import CALLS, SKIPPED, Words, setup
from harness.fuzzing import fuzz_tests
from harness.local import LocalClient, Servers, check_server
from lamina.server.registry import all_commands


class Caught(logging.Handler):
    """Keeps the exceptions that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])


def call_all(servers: Servers, history: list[tuple[Words, bool]]) -> None:
    local = servers.make(proto_max_bulk_len="1mb", client_query_buffer_limit="16mb")
    for command in setup():
        local(*command)
    client = local
    caught = Caught()
    logger = logging.getLogger("lamina.server")
    logger.addHandler(caught)
    try:
        for words, resp3 in history:
            client.client.resp = 3 if resp3 else 2
            wire = client.raw(*words)
            if caught.errors:
                raise AssertionError(f"{words} failed") from caught.errors[0]
            assert b"-ERR internal" not in wire, words
            client = refreshed(client)
    finally:
        logger.removeHandler(caught)
        server = servers.servers.pop()
        if not caught.errors:
            check_server(server)
        server.close()


def refreshed(client: LocalClient) -> LocalClient:
    """Return a client that the next command will be run for at once."""
    server, state = client.server, client.client
    if server.paused_until_ms:
        server.unpause()
    if state.wait is None and not state.closing and not state.gate and not state.pending:
        return client
    if state.id in server.clients:
        server.kill_client(state)
    return client.connect()


HISTORIES = st.lists(st.tuples(CALLS, st.booleans()), min_size=1, max_size=30)

test_arguments, test_arguments_for_long = fuzz_tests("arguments", call_all, "make_local", HISTORIES, count=60)


def test_what_is_skipped_is_there() -> None:
    assert SKIPPED.keys() <= {record.name for record in all_commands()}
