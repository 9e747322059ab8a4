"""Every error that more than one command can raise, and the exceptions that carry a text to the wire.

A text is `bytes` and complete: its first word is the code clients look at. Errors that never vary are made
once, in capitals; those that name a command or quote an argument are made by functions:

    raise errors.SYNTAX
    raise errors.invalid_expire_time(b"setex")

A raised exception holds its traceback, and with it the frames and arguments of whoever raised it; one that is
raised again appends to what it holds. So whoever catches one of these calls `release()`. They may be returned
as replies as well: they are values, equal when their texts are.

The texts are Redis's, word for word: clients and their tests compare them. What only one command says is in
that command's module.
"""

from __future__ import annotations

from typing import Self

NAME_SHOWN_MAX = 128
"""Bytes of an unknown name, and of its arguments, that an error repeats."""


class WireError(Exception):
    """An error with a text for the client; `message` is all of it, from the code to the last word."""

    __slots__ = ("message",)

    def __init__(self, message: bytes) -> None:
        self.message = message

    def __str__(self) -> str:
        return self.message.decode("utf-8", "backslashreplace")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.message == self.message

    def __hash__(self) -> int:
        return hash(self.message)

    def __reduce__(self) -> tuple[type[Self], tuple[bytes]]:
        return type(self), (self.message,)

    @property
    def code(self) -> bytes:
        """The first word: what INFO errorstats counts by."""
        return self.message.split(b" ", 1)[0]

    @property
    def reply(self) -> bytes:
        """The error as it goes over the wire."""
        return b"-%b\r\n" % one_line(self.message)

    def release(self) -> Self:
        """Let go of the frames it was raised through. Once caught, it may wait here for years."""
        self.__traceback__ = None
        self.__context__ = None
        return self


class CommandError(WireError):
    """A command failed: this is its reply."""

    __slots__ = ()


class ProtocolError(WireError):
    """What the client sent is no request: it is told so, and its connection is closed."""

    __slots__ = ()


def one_line(text: bytes) -> bytes:
    """Return `text` without line breaks: one would end the reply, and what follows be taken for another."""
    return text.replace(b"\r", b" ").replace(b"\n", b" ")


# --- Values


WRONG_TYPE = CommandError(b"WRONGTYPE Operation against a key holding the wrong kind of value")
SYNTAX = CommandError(b"ERR syntax error")
NOT_AN_INTEGER = CommandError(b"ERR value is not an integer or out of range")
NOT_A_FLOAT = CommandError(b"ERR value is not a valid float")
NOT_POSITIVE = CommandError(b"ERR value is out of range, must be positive")
OUT_OF_RANGE = CommandError(b"ERR value is out of range")
NOT_A_CURSOR = CommandError(b"ERR invalid cursor")
NO_SUCH_KEY = CommandError(b"ERR no such key")
SAME_OBJECT = CommandError(b"ERR source and destination objects are the same")
INDEX_OUT_OF_RANGE = CommandError(b"ERR index out of range")
OFFSET_OUT_OF_RANGE = CommandError(b"ERR offset is out of range")
STRING_TOO_LONG = CommandError(b"ERR string exceeds maximum allowed size (proto-max-bulk-len)")
OVERFLOW = CommandError(b"ERR increment or decrement would overflow")
NAN_OR_INFINITY = CommandError(b"ERR increment would produce NaN or Infinity")
HASH_VALUE_NAN_OR_INFINITY = CommandError(b"ERR value is NaN or Infinity")
HASH_VALUE_NOT_AN_INTEGER = CommandError(b"ERR hash value is not an integer")
HASH_VALUE_NOT_A_FLOAT = CommandError(b"ERR hash value is not a float")
SCORE_NAN = CommandError(b"ERR resulting score is not a number (NaN)")
SCORE_RANGE = CommandError(b"ERR min or max is not a float")
LEX_RANGE = CommandError(b"ERR min or max not valid string range item")
WEIGHT_NOT_A_FLOAT = CommandError(b"ERR weight value is not a float")
NUMKEYS_NOT_POSITIVE = CommandError(b"ERR numkeys should be greater than 0")
NUMKEYS_TOO_LARGE = CommandError(b"ERR Number of keys can't be greater than number of args")
COUNT_NOT_POSITIVE = CommandError(b"ERR count should be greater than 0")
COUNT_NEGATIVE = CommandError(b"ERR COUNT can't be negative")
TIMEOUT_NOT_A_FLOAT = CommandError(b"ERR timeout is not a float or out of range")
TIMEOUT_NOT_AN_INTEGER = CommandError(b"ERR timeout is not an integer or out of range")
TIMEOUT_OUT_OF_RANGE = CommandError(b"ERR timeout is out of range")
TIMEOUT_NEGATIVE = CommandError(b"ERR timeout is negative")
DB_INDEX = CommandError(b"ERR DB index is out of range")
FIRST_DB_INDEX = CommandError(b"ERR invalid first DB index")
SECOND_DB_INDEX = CommandError(b"ERR invalid second DB index")
STREAM_ID = CommandError(b"ERR Invalid stream ID specified as stream command argument")


# --- The connection, and the state of the server


NO_AUTH = CommandError(b"NOAUTH Authentication required.")
WRONG_PASS = CommandError(b"WRONGPASS invalid username-password pair or user is disabled.")
NO_AUTH_HELLO = CommandError(
    b"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user>"
    b" <pass> option can be used to authenticate the client and select the RESP protocol version at the "
    b"same time"
)
NO_PROTO = CommandError(b"NOPROTO unsupported protocol version")
NO_PASSWORD_SET = CommandError(
    b"ERR AUTH <password> called without any password configured for the default user. "
    b"Are you sure your configuration is correct?"
)
NO_PERMISSION_KEY = CommandError(b"NOPERM No permissions to access a key")
NO_PERMISSION_CHANNEL = CommandError(b"NOPERM No permissions to access a channel")
MAX_CLIENTS = CommandError(b"ERR max number of clients reached")
PROTECTED_MODE = CommandError(
    b"DENIED Redis is running in protected mode because protected mode is enabled and no password is set"
    b" for the default user. In this mode connections are only accepted from the loopback interface. If "
    b"you want to connect from external computers to Redis you may adopt one of the following solutions:"
    b" 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the "
    b"loopback interface by connecting to Redis from the same host the server is running, however MAKE "
    b"SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this "
    b"change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis "
    b"configuration file, and setting the protected mode option to 'no', and then restarting the server."
    b" 3) If you started the server manually just for testing, restart it with the '--protected-mode no'"
    b" option. 4) Set up an authentication password for the default user. NOTE: You only need to do one "
    b"of the above things in order for the server to start accepting connections from the outside."
)
UNBLOCKED = CommandError(b"UNBLOCKED client unblocked via CLIENT UNBLOCK")
NO_SUCH_CLIENT = CommandError(b"ERR No such client")


# --- Transactions and scripts


NESTED_MULTI = CommandError(b"ERR MULTI calls can not be nested")
EXEC_WITHOUT_MULTI = CommandError(b"ERR EXEC without MULTI")
DISCARD_WITHOUT_MULTI = CommandError(b"ERR DISCARD without MULTI")
WATCH_INSIDE_MULTI = CommandError(b"ERR WATCH inside MULTI is not allowed")
EXEC_ABORT = CommandError(b"EXECABORT Transaction discarded because of previous errors.")
NOT_IN_MULTI = CommandError(b"ERR Command not allowed inside a transaction")


# --- Errors with a name in them. Command names are given as they are listed: lower case, b"config|get".


def wrong_arity(name: bytes) -> CommandError:
    """Return what a call with too few or too many arguments is answered."""
    return CommandError(b"ERR wrong number of arguments for '%b' command" % name)


def unknown_command(argv: list[bytes]) -> CommandError:
    """Return what a command nobody knows is answered: its name and the beginning of its arguments.

    Redis appends arguments until it has 128 bytes and cuts the one that goes beyond, without its quotes.
    """
    shown = b""
    for argument in argv[1:]:
        room = NAME_SHOWN_MAX - len(shown)
        if room <= 0:
            break
        shown += b"'%b' " % _shown(argument, room)
    name = _shown(argv[0], NAME_SHOWN_MAX)
    return CommandError(b"ERR unknown command '%b', with args beginning with: %b" % (name, shown))


def unknown_subcommand(subcommand: bytes, container: bytes) -> CommandError:
    """Return what e.g. CONFIG FOO is answered; `container` is the name of the command before it, as sent."""
    shown = _shown(subcommand, NAME_SHOWN_MAX)
    return CommandError(b"ERR unknown subcommand '%b'. Try %b HELP." % (shown, container.upper()))


def misused_subcommand(subcommand: bytes, container: bytes) -> CommandError:
    """Return what a subcommand says whose arguments make no sense to it, though their number is right."""
    shown = _shown(subcommand, NAME_SHOWN_MAX)
    return CommandError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try %b HELP."
        % (shown, container.upper())
    )


def invalid_expire_time(name: bytes) -> CommandError:
    """Return what an expiry that is not positive, or too far away, is answered."""
    return CommandError(b"ERR invalid expire time in '%b' command" % name)


def not_between(low: int, high: int) -> CommandError:
    """Return what an integer outside of [low, high] is answered."""
    return CommandError(b"ERR value is out of range, value must between %d and %d" % (low, high))


def no_input_key(name: bytes) -> CommandError:
    """Return what ZUNIONSTORE and its relatives say to numkeys 0."""
    return CommandError(b"ERR at least 1 input key is needed for '%b' command" % name)


def no_permission_command(user: bytes, name: bytes) -> CommandError:
    """Return what a user hears who may not run a command."""
    return CommandError(b"NOPERM User %b has no permissions to run the '%b' command" % (user, name))


def no_such_group(group: bytes, key: bytes) -> CommandError:
    """Return what is said when a stream has no such consumer group."""
    shown = group.split(b"\0", 1)[0], key.split(b"\0", 1)[0]
    return CommandError(b"NOGROUP No such consumer group '%b' for key name '%b'" % shown)


def no_such_key_or_group(key: bytes, group: bytes, where: bytes = b"") -> CommandError:
    """Return what is said when either the stream or its consumer group is missing; `where` ends the text."""
    shown = key.split(b"\0", 1)[0], group.split(b"\0", 1)[0]
    return CommandError(b"NOGROUP No such key '%b' or consumer group '%b'" % shown + where)


def exec_aborted(reason: bytes) -> CommandError:
    """Return what EXEC says when the server itself, and not a queued command, forbids the transaction."""
    return CommandError(b"EXECABORT Transaction discarded because of: %b" % reason)


def write_failed(reason: bytes) -> CommandError:
    """Return what writes are answered while the engine refuses them; clients know it from Redis's AOF."""
    return CommandError(b"MISCONF Errors writing to the AOF file: %b" % reason)


INTERNAL_ERROR = CommandError(b"ERR internal error: the server's log has the details")
NOT_IN_TRANSACTION = CommandError(b"ERR This command commits what it finds: not in a transaction or script")


def only_in_pubsub(name: bytes) -> CommandError:
    """Return what a RESP2 client hears that subscribed and then sends anything else."""
    return CommandError(
        b"ERR Can't execute '%b': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed "
        b"in this context" % name
    )


# --- Requests that cannot be parsed


TOO_BIG_INLINE = ProtocolError(b"ERR Protocol error: too big inline request")
UNBALANCED_QUOTES = ProtocolError(b"ERR Protocol error: unbalanced quotes in request")
TOO_BIG_COUNT_STRING = ProtocolError(b"ERR Protocol error: too big mbulk count string")
TOO_BIG_BULK_COUNT_STRING = ProtocolError(b"ERR Protocol error: too big bulk count string")
INVALID_MULTIBULK_LENGTH = ProtocolError(b"ERR Protocol error: invalid multibulk length")
INVALID_BULK_LENGTH = ProtocolError(b"ERR Protocol error: invalid bulk length")
UNAUTHENTICATED_MULTIBULK_LENGTH = ProtocolError(b"ERR Protocol error: unauthenticated multibulk length")
UNAUTHENTICATED_BULK_LENGTH = ProtocolError(b"ERR Protocol error: unauthenticated bulk length")


def expected_dollar(found: bytes) -> ProtocolError:
    """Return what is said when an argument does not begin with `$`; `found` is its first byte."""
    return ProtocolError(b"ERR Protocol error: expected '$', got '%b'" % found)


def _shown(text: bytes, size: int) -> bytes:
    # Redis prints names as C strings: a NUL ends them.
    return text[:size].split(b"\0", 1)[0]
