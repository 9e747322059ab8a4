"""Errors as they go to clients."""

from __future__ import annotations

import gc
import pickle
import weakref

import pytest

from lamina.server import errors
from lamina.server.errors import CommandError, ProtocolError


def test_an_error_knows_its_code_and_its_line() -> None:
    assert errors.WRONG_TYPE.code == b"WRONGTYPE"
    assert errors.SYNTAX.reply == b"-ERR syntax error\r\n"
    assert errors.expected_dollar(b"\r").reply == b"-ERR Protocol error: expected '$', got ' '\r\n"
    assert str(CommandError(b"ERR \xff")) == "ERR \\xff"
    assert repr(errors.SYNTAX) == "CommandError(b'ERR syntax error')"


def test_errors_are_values() -> None:
    assert CommandError(b"ERR syntax error") == errors.SYNTAX
    assert ProtocolError(b"ERR syntax error") != errors.SYNTAX
    assert len({errors.SYNTAX, CommandError(b"ERR syntax error")}) == 1
    assert pickle.loads(pickle.dumps(errors.SYNTAX)) == errors.SYNTAX


class Witness:
    """Something whose end can be seen."""


def _raise_beside(witness: Witness) -> None:
    try:
        raise KeyError(witness)
    except KeyError:
        raise errors.SYNTAX  # noqa: B904 - the context is what this is about


def test_a_released_error_holds_nobodys_frame() -> None:
    witness = Witness()
    ended = weakref.ref(witness)
    for _ in range(3):
        with pytest.raises(CommandError) as caught:
            _raise_beside(witness)
        caught.value.release()
    del caught, witness
    gc.collect()
    assert ended() is None
    assert errors.SYNTAX.__traceback__ is None
    assert errors.SYNTAX.__context__ is None


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([b"foo"], b"'foo', with args beginning with: "),
        ([b"foo", b"a", b"b"], b"'foo', with args beginning with: 'a' 'b' "),
        ([b"", b"a'b"], b"'', with args beginning with: 'a'b' "),
        ([b"x" * 200, b"y" * 200, b"z"], b"'%b', with args beginning with: '%b' " % (b"x" * 128, b"y" * 128)),
        (
            [b"foo", b"a" * 50, b"b" * 90, b"c"],
            b"'foo', with args beginning with: '%b' '%b' " % (b"a" * 50, b"b" * 75),
        ),
        ([b"fo\0o", b"a\0b", b"\xff"], b"'fo', with args beginning with: 'a' '\xff' "),
    ],
)
def test_an_unknown_command_is_quoted_as_redis_quotes_it(argv: list[bytes], text: bytes) -> None:
    assert errors.unknown_command(argv).message == b"ERR unknown command " + text


def test_subcommands_are_named_with_their_container() -> None:
    unknown = errors.unknown_subcommand(b"no'such\r\n", b"config")
    assert unknown.reply == b"-ERR unknown subcommand 'no'such  '. Try CONFIG HELP.\r\n"
    assert errors.unknown_subcommand(b"x" * 300, b"xinfo").message.count(b"x") == 128
    misused = errors.misused_subcommand(b"kill", b"client")
    assert misused.message == (
        b"ERR unknown subcommand or wrong number of arguments for 'kill'. Try CLIENT HELP."
    )


def test_no_text_breaks_its_line() -> None:
    shared = [value for value in vars(errors).values() if isinstance(value, errors.WireError)]
    assert len(shared) > 40
    for error in shared:
        assert error.reply == b"-%b\r\n" % error.message
        assert error.code.isupper()
