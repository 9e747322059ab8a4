"""The table of commands against that of a real redis-server: names, arity, flags, keys, categories, dates,
arguments. The server is a 7.0; what 7.2 has, or has in another way, is in harness.newer, value by value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness.compat import Pair
from harness.newer import (
    ARGUMENTS_TOLD_DIFFERENTLY,
    FOR_SCRIPTS_IN_7_2,
    IN_7_2,
    LAMINAS_OWN,
    NEW_IN_7_2,
    NEWER,
)
from harness.resp import RespClient, parse, to_bytes
from harness.servers import Server
from lamina.server import commands
from lamina.server.aclcategories import CATEGORIES
from lamina.server.commanddocs import command_docs, command_info
from lamina.server.commandpage import ABSENT, REDIS_COMMANDS
from lamina.server.registry import Command, all_commands
from lamina.server.replies import encode

GROUPS = commands.GROUPS


def as_dict(flat: Any) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def with_subcommands(info: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    yield info[0].decode(), info
    for subcommand in info[9]:
        yield from with_subcommands(subcommand)


def docs_with_subcommands(flat: Any) -> Iterator[tuple[str, dict[Any, Any]]]:
    for name, docs in as_dict(flat).items():
        yield name.decode(), as_dict(docs)
        yield from docs_with_subcommands(as_dict(docs).get(b"subcommands", []))


@pytest.fixture(scope="module")
def reference(redis_server: Server) -> Iterator[RespClient]:
    """Connect to the real one."""
    with redis_server.client() as client:
        yield client


@pytest.fixture(scope="module")
def table(reference: RespClient) -> dict[str, list[Any]]:
    """Return COMMAND INFO of every command and subcommand, by name."""
    return {name: info for whole in reference.call("COMMAND") for name, info in with_subcommands(whole)}


@pytest.fixture(scope="module")
def docs(reference: RespClient) -> dict[str, dict[Any, Any]]:
    """Return COMMAND DOCS of every command and subcommand, by name."""
    return dict(docs_with_subcommands(reference.call("COMMAND", "DOCS")))


def words(items: Any) -> list[str]:
    return [to_bytes(item).decode() for item in items]


def plain_spec(spec: Any) -> Any:
    """Return a key specification; of its notes only that there are some, for they are Lamina's own."""
    found = as_dict(spec)
    found[b"notes"] = b"notes" in found
    found[b"flags"] = words(found[b"flags"])
    for part in (b"begin_search", b"find_keys"):
        found[part] = {key: value or [] for key, value in as_dict(found[part]).items()}
    return found


def facts(info: list[Any]) -> dict[str, Any]:
    """Return what COMMAND INFO says, by what it is about; what has no order is sorted."""
    return {
        "arity": info[1],
        "flags": words(info[2]),
        "keys": info[3:6],
        "categories": sorted(words(info[6])),
        "tips": sorted(info[7]),
        "key_specs": [plain_spec(spec) for spec in info[8]],
        "subcommand": b"|" in info[0],
    }


def doc_facts(docs: dict[Any, Any]) -> dict[str, Any]:
    """Return what COMMAND DOCS says, but for the texts, which are Lamina's own."""
    said = {
        name.decode(): docs.get(name) for name in (b"since", b"group", b"deprecated_since", b"replaced_by")
    }
    return said | {
        "doc_flags": [to_bytes(flag) for flag in docs.get(b"doc_flags", [])],
        "subcommands": sorted(as_dict(docs[b"subcommands"])) if b"subcommands" in docs else [],
    }


def arguments(docs: dict[Any, Any]) -> list[Any]:
    """Return the tree of arguments, without their names."""
    return [
        (
            argument[b"type"],
            argument.get(b"token"),
            sorted(words(argument.get(b"flags", []))),
            argument.get(b"key_spec_index"),
            arguments(argument),
        )
        for argument in map(as_dict, docs.get(b"arguments", []))
    ]


def expected(record: Command, real: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of 7.0 as 7.2 has them; a change without effect would be a mistake in the list."""
    changes = {fact: value for fact, value in IN_7_2.get(record.name, {}).items() if fact in real}
    if record.name in FOR_SCRIPTS_IN_7_2 and "flags" in real and "flags" not in changes:
        changes["flags"] = [flag for flag in real["flags"] if flag != "noscript"]
    for fact, value in changes.items():
        assert real[fact] != value, f"{record.name} does not differ in {fact}"
    return real | changes


ALL = all_commands()
SHARED = [record for record in ALL if record.name not in NEWER | LAMINAS_OWN]


def test_names(table: dict[str, list[Any]]) -> None:
    """Nothing is missing, nothing is there that neither 7.2 nor Lamina has, and the lists say so exactly."""
    ours = {record.name for record in ALL}
    assert ours - {name.upper() for name in table} == NEWER | LAMINAS_OWN
    assert {name.upper() for name in table} - ours == set()
    assert not ABSENT.keys() & {*ours, *(name.upper() for name in table)}


def test_the_page_lists_all_of_7_2(table: dict[str, list[Any]]) -> None:
    """What docs/commands.md counts by is the table of the reference, and what 7.2 has added."""
    listed = [name for names in REDIS_COMMANDS.values() for name in names.split()]
    assert len(listed) == len(set(listed))
    assert set(listed) == {name.upper() for name in table} | NEW_IN_7_2
    by_name = {record.name: record for record in ALL}
    for group, names in REDIS_COMMANDS.items():
        assert {by_name[name].group for name in names.split()} == {group}


def test_lists_of_differences_name_commands() -> None:
    named = {*IN_7_2, *FOR_SCRIPTS_IN_7_2, *ARGUMENTS_TOLD_DIFFERENTLY, *NEWER, *LAMINAS_OWN}
    assert named <= {record.name for record in ALL}


@pytest.mark.parametrize("record", SHARED, ids=lambda record: record.name)
def test_command_info(record: Command, table: dict[str, list[Any]]) -> None:
    mine = facts(parse(encode(command_info(record), 2)))
    assert mine == expected(record, facts(table[record.wire_name.decode()]))


@pytest.mark.parametrize("record", SHARED, ids=lambda record: record.name)
def test_command_docs(record: Command, docs: dict[str, dict[Any, Any]]) -> None:
    real = doc_facts(docs[record.wire_name.decode()])
    real["subcommands"] = sorted({*real["subcommands"], *(sub.wire_name for sub in added(record))})
    mine = doc_facts(as_dict(parse(encode(command_docs(record), 2))))
    if record.name in IN_7_2 and "doc_flags" in IN_7_2[record.name]:
        for fact in ("deprecated_since", "replaced_by"):
            assert mine.pop(fact) is not None
            assert real.pop(fact) is None
    assert mine == expected(record, real)


def added(record: Command) -> list[Command]:
    """Return the subcommands of a container that 7.0 has not."""
    return [sub for sub in record.subcommands.values() if sub.name in NEWER | LAMINAS_OWN]


@pytest.mark.parametrize("record", SHARED, ids=lambda record: record.name)
def test_arguments(record: Command, docs: dict[str, dict[Any, Any]]) -> None:
    mine = arguments(as_dict(parse(encode(command_docs(record), 2))))
    real = arguments(docs[record.wire_name.decode()])
    if record.name in ARGUMENTS_TOLD_DIFFERENTLY:
        assert mine != real, "it is told as Redis tells it"
    else:
        assert mine == real


@pytest.mark.parametrize("category", CATEGORIES)
def test_acl_categories(pair: Pair, category: str) -> None:
    """ACL CAT lists commands whole, and subcommands; COMMAND LIST says the same."""
    for question in (("ACL", "CAT", category), ("COMMAND", "LIST", "FILTERBY", "ACLCAT", category)):
        real, mine = (set(map(to_bytes, client.call(*question))) for client in (pair.reference, pair.tested))
        assert {name for name in mine if name.upper().decode() not in NEWER | LAMINAS_OWN} == real


@pytest.mark.parametrize("pattern", ["*", "GET*", "config|*", "*|help", "?set", "[ab]*", "x*", "nosuch", ""])
def test_lists_by_pattern(pair: Pair, pattern: str) -> None:
    question = ("COMMAND", "LIST", "FILTERBY", "PATTERN", pattern)
    real, mine = (set(map(to_bytes, client.call(*question))) for client in (pair.reference, pair.tested))
    assert {name for name in mine if name.upper().decode() not in NEWER | LAMINAS_OWN} == real


def test_other_lists(pair: Pair) -> None:
    pair.unordered("COMMAND", "LIST", "FILTERBY", "MODULE", "any")
    pair.unordered("COMMAND", "LIST", "FILTERBY", "ACLCAT", "nosuch")
    pair("COMMAND", "LIST", "FILTERBY", "nosuch", "any")
    pair("COMMAND", "LIST", "FILTERBY", "MODULE")
    pair("COMMAND", "LIST", "any")
    assert set(pair.tested.call("COMMAND", "LIST")) == {record.wire_name for record in ALL}


def test_the_categories_are_redis_s(reference: RespClient) -> None:
    assert [name.decode() for name in reference.call("ACL", "CAT")] == list(CATEGORIES)
