"""The registry: what a declaration must be like, and what is derived from it."""

from __future__ import annotations

import pytest

from lamina.server import commands
from lamina.server.commandpage import REDIS_COMMANDS
from lamina.server.registry import (
    ALL_KEYS,
    COMMANDS,
    NO_KEYS,
    ONE_KEY,
    Command,
    Keys,
    all_commands,
    command,
    key_positions,
    keys_after_count,
    lookup,
    rename,
)

GROUPS = commands.GROUPS


def documented(client: object, argv: list[bytes]) -> None:
    """Do nothing.

    NOTHING key
    """


def declare(name: str = "NOSUCH", arity: int = 2, flags: str = "fast", keys: Keys = ONE_KEY) -> None:
    command(name, arity=arity, flags=flags, keys=keys, since="1.0.0", complexity="O(1)")(documented)


def test_a_declaration_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="upper case"):
        declare("nosuch")
    with pytest.raises(ValueError, match="unknown flags quick"):
        declare(flags="quick")
    with pytest.raises(ValueError, match="no room for its key"):
        declare(arity=1)
    with pytest.raises(ValueError, match="declared twice"):
        declare("GET")
    with pytest.raises(ValueError, match="container"):
        declare("NOSUCH|GET", arity=3)
    assert lookup(b"nosuch") is None


def test_a_handler_needs_a_summary_and_a_syntax() -> None:
    def bare(client: object, argv: list[bytes]) -> None:
        """Do nothing."""

    with pytest.raises(ValueError, match="docstring"):
        command("NOSUCH", arity=1, flags="", since="1.0.0", complexity="O(1)")(bare)


@pytest.mark.parametrize("record", all_commands(), ids=lambda record: record.name)
def test_every_declaration(record: Command) -> None:
    name = record.name.replace("|", " ")
    assert record.syntax == name or record.syntax.startswith(f"{name} ")
    assert record.summary[0].isupper()
    assert record.complexity
    assert record.group in REDIS_COMMANDS
    assert not record.find_keys or record.flags & {"movablekeys", "pubsub"}
    assert not (record.is_write and "readonly" in record.flags)


def test_positions_of_keys() -> None:
    words = b"x a b c d".split()
    assert key_positions(record_with(NO_KEYS), words) == []
    assert key_positions(record_with(ONE_KEY), words) == [1]
    assert key_positions(record_with(ALL_KEYS), words) == [1, 2, 3, 4]
    assert key_positions(record_with(Keys(1, -2, 2)), words) == [1, 3]
    assert key_positions(record_with(Keys(2, 9, 1)), words) == [2, 3, 4]


def record_with(keys: Keys) -> Command:
    return Command(
        "X",
        documented,
        arity=-3,
        flags="",
        keys=keys,
        find_keys=None,
        since="1.0.0",
        complexity="",
        group="generic",
        notes=(),
    )


def test_keys_after_their_number() -> None:
    find = keys_after_count(2, first=1)
    assert find(b"x d 2 a b c".split()) == [1, 3, 4]
    for call in (b"x d 0 a", b"x d 3 a b", b"x d n a", b"x d -1 a"):
        with pytest.raises(ValueError):
            find(call.split())


def test_what_is_counted_can_be_reset() -> None:
    record = record_with(NO_KEYS)
    record.histogram[3] = 2
    record.rejected = record.failed = record.elapsed_ns = 5
    assert record.calls == 2
    record.reset_statistics()
    assert (record.calls, record.rejected, record.failed, record.elapsed_ns) == (0, 0, 0, 0)


def test_containers_come_before_their_subcommands() -> None:
    names = [record.name for record in all_commands()]
    assert names == sorted(names, key=lambda name: name.split("|"))
    assert len(names) > len(COMMANDS)


def test_a_renamed_command_is_found_under_its_new_name_only() -> None:
    table = dict(COMMANDS)
    rename(b"get", b"Fetch", table)
    rename(b"FETCH", b"fetch", table)
    rename(b"Debug", b"", table)
    assert b"GET" not in table
    assert b"DEBUG" not in table
    assert table[b"FETCH"] is COMMANDS[b"GET"]
    assert table[b"FETCH"].wire_name == b"get"
    before = dict(table)
    for old, new, reason in [
        (b"get", b"x", "No such command in rename-command"),
        (b"debug", b"", "No such command in rename-command"),
        (b"fetch", b"Set", "Target command name already exists"),
    ]:
        with pytest.raises(ValueError, match=reason):
            rename(old, new, table)
    assert table == before


def test_what_is_counted_while_nothing_is_tracked_is_left_out() -> None:
    record = Command(
        "NOSUCH", documented, arity=2, flags="", keys=ONE_KEY, find_keys=None, since="1", complexity="",
        group="", notes=(),
    )  # fmt: skip
    record.histogram[3] += 5
    record.track(True)
    record.track(False)
    record.histogram[3] += 2
    record.histogram[4] += 1
    record.track(False)
    assert (record.calls, sum(record.tracked)) == (8, 5)
    record.track(True)
    record.histogram[4] += 1
    assert record.tracked[3:5] == [5, 1]
    record.track(False)
    record.histogram[4] += 1
    record.reset_statistics()
    assert (record.calls, sum(record.tracked)) == (0, 0)
    record.histogram[4] += 1
    record.track(True)
    record.histogram[4] += 1
    assert (record.calls, sum(record.tracked)) == (2, 1)
