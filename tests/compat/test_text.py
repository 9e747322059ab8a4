"""Numbers, patterns and lines as text: what Lamina makes of them against what a real redis-server does.

Here no server of Lamina's is needed: its functions are asked, so that thousands of cases take seconds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from harness.resp import ErrorReply, RespClient
from harness.servers import Server
from lamina.server import errors
from lamina.server.errors import CommandError
from lamina.server.glob import compile_glob
from lamina.server.longdouble import add_long_doubles, format_long_double, parse_long_double
from lamina.server.numbers import parse_float, parse_integer
from lamina.server.splitting import split_arguments

CASES = 2000
SEEDS = [1, 2]


@pytest.fixture
def redis(redis_server: Server) -> Iterator[RespClient]:
    """A connection to an empty redis-server."""
    with redis_server.client() as client:
        client.ok("FLUSHALL")
        yield client


def a_number(chance: random.Random) -> bytes:
    """Return a number as somebody might write it, or something that looks like one."""
    digits = str(chance.randrange(10 ** chance.randrange(1, 40)))
    decimals = str(chance.randrange(10 ** chance.randrange(1, 25)))
    sign = chance.choice(["", "", "-", "+"])
    small, large = chance.randrange(-40, 40), chance.randrange(-5100, 5100)
    kinds = [
        f"{sign}{digits}",
        f"{sign}{digits}.{decimals}",
        f"{sign}{decimals[:3]}.{digits}e{small}",
        f"{sign}.{decimals}E{large}",
        f"{sign}0x{int(digits):x}.{int(decimals):X}p{small}",
        f"{sign}0x{int(digits[:4]):x}p{large * 4}",
        repr(chance.random() * 10**small),
        str(chance.randrange(-(1 << 66), 1 << 66)),
        "".join(chance.choices("0123456789.eE+-xXp infan", k=chance.randrange(8))),
        chance.choice(["inf", "-inf", "+Infinity", "nan", "", " 1", "1 ", "01", "-0"]),
    ]
    return chance.choice(kinds).encode()


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_of_floats(redis: RespClient, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(CASES // 100):
        pairs = [(a_number(chance), a_number(chance)) for _ in range(100)]
        commands = [command for a, b in pairs for command in (("SET", "s", a), ("INCRBYFLOAT", "s", b))]
        replies = redis.pipeline(commands)[1::2]
        for (a, b), reply in zip(pairs, replies):
            assert reply == expected_sum(a, b), f"{a!r} + {b!r}"


def expected_sum(a: bytes, b: bytes) -> bytes | ErrorReply:
    x, y = parse_long_double(a), parse_long_double(b)
    if x is None or y is None:
        return as_reply(errors.NOT_A_FLOAT)
    total = add_long_doubles(x, y)
    return as_reply(errors.NAN_OR_INFINITY) if total is None else format_long_double(total)


def as_reply(error: CommandError) -> ErrorReply:
    return ErrorReply(error.message.decode())


@pytest.mark.parametrize("seed", SEEDS)
def test_integers_and_scores(redis: RespClient, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(CASES // 100):
        numbers = [a_number(chance) for _ in range(100)]
        commands = [
            command
            for number in numbers
            for command in (
                ("DEL", "z"),
                ("ZADD", "z", number, "member"),
                ("ZSCORE", "z", "member"),
                ("SET", "i", "0"),
                ("INCRBY", "i", number),
            )
        ]
        replies = redis.pipeline(commands)
        for at, number in enumerate(numbers):
            score, sum_ = replies[5 * at + 2], replies[5 * at + 4]
            integer = parse_integer(number)
            assert sum_ == (as_reply(errors.NOT_AN_INTEGER) if integer is None else integer), number
            value = parse_float(number)
            if value is not None:
                # 7.0 shows 17 digits; adding zero takes the sign from zero.
                assert score == b"%.17g" % (value + 0.0), number
            else:
                assert score is None, number


LETTERS = [b"a", b"b", b"c", b"A", b"-", b"]", b"[", b"^", b"\\", b"*", b"?", b"\n", b"\0", b"\xff", b"_"]
KEY_WEIGHTS = [8, 8, 5, 3, 6, 5, 6, 4, 4, 1, 1, 1, 1, 1, 1]
PATTERN_WEIGHTS = [6, 6, 4, 3, 5, 6, 7, 4, 5, 9, 5, 1, 1, 1, 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_patterns(redis: RespClient, seed: int) -> None:
    chance = random.Random(seed)

    def a_word(weights: list[int], size_max: int) -> bytes:
        return b"".join(chance.choices(LETTERS, weights, k=chance.randrange(size_max)))

    keys = {a_word(KEY_WEIGHTS, 8) for _ in range(300)} | {b""}
    redis.ok("MSET", *[word for key in keys for word in (key, "")])
    for _ in range(CASES // 2):
        pattern = a_word(PATTERN_WEIGHTS, 9)
        matches = compile_glob(pattern)
        expected = set(redis.ok("KEYS", pattern))
        assert {key for key in keys if matches(key)} == expected, pattern


def test_patterns_in_either_case(redis: RespClient) -> None:
    """COMMAND LIST matches without regard to case."""
    names = redis.ok("COMMAND", "LIST")
    chance = random.Random(1)
    for _ in range(300):
        pattern = "".join(chance.choices("GgEeTtSs*?[]^-\\", [2] * 8 + [5, 3, 3, 3, 1, 2, 2], k=5)).encode()
        matches = compile_glob(pattern, ignore_case=True)
        found = redis.ok("COMMAND", "LIST", "FILTERBY", "PATTERN", pattern)
        assert {name for name in names if matches(name)} == set(found), pattern


def test_lines(redis_server: Server) -> None:
    chance = random.Random(1)
    with redis_server.client() as control:
        control.ok("FLUSHALL")
        client = redis_server.client()
        for _ in range(500):
            line = b"".join(chance.choices([b"a", b" ", b'"', b"'", b"\\", b"x41", b"n", b"\t", b"\v"], k=8))
            arguments = split_arguments(line)
            client.send_raw(b"RPUSH list begin " + line + b" \r\n")
            reply = client.read()
            if arguments is None:
                assert reply == ErrorReply(errors.UNBALANCED_QUOTES.message.decode()), line
                client.close()
                client = redis_server.client()
            else:
                assert control.ok("LRANGE", "list", 1, -1) == arguments, line
            control.ok("DEL", "list")
        client.close()


def test_unknown_commands(redis: RespClient) -> None:
    chance = random.Random(1)
    for _ in range(300):
        argv = [
            b"".join(chance.choices([b"x", b"'", b"\r", b"\n", b"\0", b"\xff", b"yyyyyyyyy"], k=size))
            for size in chance.choices([0, 1, 3, 10, 40], k=chance.randrange(1, 12))
        ]
        argv[0] = b"no-such-" + argv[0]
        assert redis.call_raw(*argv) == errors.unknown_command(argv).reply
        subcommand = [b"CONFIG", b"no-such-" + argv[0]]
        assert redis.call_raw(*subcommand) == errors.unknown_subcommand(subcommand[1], b"config").reply
