"""What commands make of their arguments: integers, floats, timeouts, expiries, ranges.

Each function returns a value or raises a CommandError with the text Redis has for that mistake; where texts
differ from command to command, the error is a parameter. Arguments are bytes as the client sent them.
"""

from __future__ import annotations

from math import ceil

from lamina.server.errors import (
    LEX_RANGE,
    NOT_A_FLOAT,
    NOT_AN_INTEGER,
    NOT_POSITIVE,
    NUMKEYS_NOT_POSITIVE,
    SCORE_RANGE,
    SYNTAX,
    TIMEOUT_NEGATIVE,
    TIMEOUT_NOT_A_FLOAT,
    TIMEOUT_NOT_AN_INTEGER,
    TIMEOUT_OUT_OF_RANGE,
    CommandError,
    invalid_expire_time,
    no_input_key,
    not_between,
)
from lamina.server.numbers import INTEGER_MAX, INTEGER_MIN, parse_double, parse_float, parse_integer

ScoreBound = tuple[float, bool]
"""A score, and whether it is itself excluded."""

LexRange = tuple[bytes, bytes | None]
"""Members from the first on, before the second; None is the end of them all."""

NO_MEMBERS: LexRange = (b"", b"")


# --- Numbers


def integer(data: bytes, error: CommandError = NOT_AN_INTEGER) -> int:
    """Return a signed 64-bit integer."""
    value = parse_integer(data)
    if value is None:
        raise error
    return value


def integer_in(data: bytes, low: int, high: int, error: CommandError | None = None) -> int:
    """Return an integer from `low` to `high`; `error` stands in for both of the texts Redis has otherwise."""
    value = parse_integer(data)
    if value is None:
        raise error or NOT_AN_INTEGER
    if not low <= value <= high:
        raise error or not_between(low, high)
    return value


def positive(data: bytes, error: CommandError = NOT_POSITIVE) -> int:
    """Return an integer that is zero or more: what counts must be."""
    value = parse_integer(data)
    if value is None or value < 0:
        raise error
    return value


def float_(data: bytes, error: CommandError = NOT_A_FLOAT) -> float:
    """Return a double, which may be infinite but is a number."""
    value = parse_float(data)
    if value is None:
        raise error
    return value


# --- Times


def timeout_ms(data: bytes) -> int:
    """Return the timeout of a blocking command, given in seconds with decimals; 0 is for ever."""
    seconds = parse_float(data)
    if seconds is None:
        raise TIMEOUT_NOT_A_FLOAT
    if seconds > INTEGER_MAX // 1000:
        raise TIMEOUT_OUT_OF_RANGE
    if seconds <= -0.001:
        raise TIMEOUT_NEGATIVE
    # Rounded up, so that a client never waits less than it asked for, and never for ever by mistake.
    return ceil(seconds * 1000)


def timeout_whole_ms(data: bytes) -> int:
    """Return a timeout given in whole milliseconds (WAIT, CLIENT PAUSE, XREAD BLOCK); 0 is for ever."""
    value = parse_integer(data)
    if value is None:
        raise TIMEOUT_NOT_AN_INTEGER
    if value < 0:
        raise TIMEOUT_NEGATIVE
    return value


def expire_at_ms(data: bytes, *, unit_ms: int, base_ms: int, name: bytes) -> int:
    """Return the Unix time in ms at which a value expires that is being set: SET, SETEX, GETEX.

    `unit_ms` is 1000 for seconds; `base_ms` is now, or 0 where an absolute time is given; `name` is the
    command's for the error. Times and durations must be greater than zero; an absolute one may have passed.
    """
    value = integer(data)
    if value <= 0 or value > (INTEGER_MAX - base_ms) // unit_ms:
        raise invalid_expire_time(name)
    return value * unit_ms + base_ms


def expire_change_ms(data: bytes, *, unit_ms: int, base_ms: int, name: bytes) -> int:
    """Return the Unix time in ms that EXPIRE and its relatives ask for, which may have passed long ago."""
    value = integer(data)
    at_ms = value * unit_ms + base_ms
    if at_ms > INTEGER_MAX or value * unit_ms < INTEGER_MIN:
        raise invalid_expire_time(name)
    return at_ms


# --- Ranges


def score_bound(data: bytes) -> ScoreBound:
    """Return one end of a range of scores: `5`, `(5`, `-inf`.

    Redis reads these less strictly than scores: spaces may lead, nothing at all is 0, what is too large is
    infinite, and a NUL ends the text.
    """
    is_excluded = data[:1] == b"("
    text = data[1:] if is_excluded else data
    value = parse_double(text)
    if value is None:
        text = text.split(b"\0", 1)[0]
        value = parse_double(text.lstrip(b" \t\n\v\f\r")) if text else 0.0
        if value is None:
            raise SCORE_RANGE
    return value, is_excluded


def lex_range(low: bytes, high: bytes) -> LexRange:
    """Return the members from `low` to `high`, each `-`, `+`, `[member` or `(member`, half open."""
    start = _lex_bound(low, is_high=False)
    stop = _lex_bound(high, is_high=True)
    if start is None or (stop is not None and start >= stop):
        return NO_MEMBERS
    return start, stop


def _lex_bound(data: bytes, *, is_high: bool) -> bytes | None:
    kind, member = data[:1], data[1:]
    if kind == b"[":
        # The first string after a member is the member with a NUL.
        return member + b"\0" if is_high else member
    if kind == b"(":
        return member if is_high else member + b"\0"
    if data == b"-":
        return b""
    if data == b"+":
        return None
    raise LEX_RANGE


# --- Keys


def keys_after(
    argv: list[bytes],
    at: int,
    *,
    not_integer: CommandError = NUMKEYS_NOT_POSITIVE,
    too_few: CommandError = NUMKEYS_NOT_POSITIVE,
    too_many: CommandError = SYNTAX,
) -> list[bytes]:
    """Return the keys that follow the argument at `at`, which is their number and at least 1.

    The defaults are the texts of LMPOP and ZMPOP; `input_keys` has those of ZUNION and its relatives.
    """
    count = integer(argv[at], not_integer)
    if count < 1:
        raise too_few
    stop = at + 1 + count
    if stop > len(argv):
        raise too_many
    return argv[at + 1 : stop]


def input_keys(argv: list[bytes], at: int, name: bytes) -> list[bytes]:
    """Return the keys ZUNION, ZINTER, ZDIFF and their STORE forms work on; `name` is the command's."""
    return keys_after(argv, at, not_integer=NOT_AN_INTEGER, too_few=no_input_key(name))
