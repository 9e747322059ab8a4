"""The table of commands against that of a real redis-server: names, arity, flags, keys, categories, dates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness.resp import RespClient, parse, to_bytes
from harness.servers import Server
from lamina.server import commands
from lamina.server.aclcategories import CATEGORIES
from lamina.server.commanddocs import command_docs, command_info
from lamina.server.registry import Command, all_commands
from lamina.server.replies import encode

GROUPS = commands.GROUPS

NEWER = frozenset(
    "client|no-touch client|setinfo cluster|myshardid waitaof hexpire hexpireat hexpiretime hpersist hpexpire"
    " hpexpireat hpexpiretime hpttl httl".split()
)
"""What Redis 7.2 has, or 7.4 for the expiry of fields, and 7.0 has not."""

LAMINAS_OWN = frozenset(("checkpoint",))
"""What no Redis has."""

DIFFERENT = {
    "wait": {"flags", "categories"},  # 7.2: it may be called by scripts, and blocks
    "zrank": {"arity"},  # 7.2: WITHSCORE
    "zrevrank": {"arity"},
    "psetex": {"doc_flags"},  # 7.2: deprecated
    "setex": {"doc_flags"},
    "setnx": {"doc_flags"},
    "quit": {"doc_flags"},
}
"""What 7.2 says in another way than 7.0, by command."""

NOT_FOR_SCRIPTS = "noscript"
"""7.2 lets scripts call commands that block: they do not wait there."""


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
    """Return a key specification without its notes."""
    found = as_dict(spec)
    found.pop(b"notes", None)
    found[b"flags"] = words(found[b"flags"])
    for part in (b"begin_search", b"find_keys"):
        found[part] = {key: value or [] for key, value in as_dict(found[part]).items()}
    return found


def facts(info: list[Any]) -> dict[str, Any]:
    """Return what COMMAND INFO says, by what it is about; what has no order is sorted."""
    flags = words(info[2])
    if "blocking" in flags and NOT_FOR_SCRIPTS in flags:
        flags.remove(NOT_FOR_SCRIPTS)
    return {
        "arity": info[1],
        "flags": flags,
        "keys": info[3:6],
        "categories": sorted(words(info[6])),
        "tips": sorted(info[7]),
        "key_specs": [plain_spec(spec) for spec in info[8]],
        "subcommand": b"|" in info[0],
    }


OURS = [record for record in all_commands() if record.wire_name.decode() not in NEWER | LAMINAS_OWN]


def test_what_is_newer_is_not_in_the_reference(table: dict[str, list[Any]]) -> None:
    assert not (NEWER | LAMINAS_OWN) & table.keys()
    assert {record.wire_name.decode() for record in all_commands()} - table.keys() <= NEWER | LAMINAS_OWN


@pytest.mark.parametrize("record", OURS, ids=lambda record: record.name)
def test_command_info(record: Command, table: dict[str, list[Any]]) -> None:
    name = record.wire_name.decode()
    mine, real = facts(parse(encode(command_info(record), 2))), facts(table[name])
    for fact in DIFFERENT.get(name, ()):
        if fact in mine:
            assert mine.pop(fact) != real.pop(fact), f"{name} no longer differs in {fact}"
    assert mine == real


@pytest.mark.parametrize("record", OURS, ids=lambda record: record.name)
def test_command_docs(record: Command, docs: dict[str, dict[Any, Any]]) -> None:
    name = record.wire_name.decode()
    mine, real = as_dict(parse(encode(command_docs(record), 2))), docs[name]
    assert mine[b"since"] == real[b"since"]
    assert mine[b"group"] == real[b"group"]
    if "doc_flags" not in DIFFERENT.get(name, ()):
        for fact in (b"doc_flags", b"deprecated_since", b"replaced_by"):
            assert mine.get(fact) == real.get(fact)
    assert (b"subcommands" in mine) == (b"subcommands" in real)


def test_every_subcommand_of_a_container_that_is_whole(table: dict[str, list[Any]]) -> None:
    ours = {record.wire_name.decode() for record in all_commands()}
    for container in ("client", "cluster", "command", "config", "latency", "memory", "module", "slowlog"):
        wanted = {name for name in table if name.startswith(f"{container}|")}
        assert wanted <= ours


@pytest.mark.parametrize("category", CATEGORIES)
def test_acl_categories(reference: RespClient, category: str) -> None:
    real = set(reference.call("ACL", "CAT", category))
    ours = {record.wire_name for record in OURS if record.wire_name.decode() not in DIFFERENT}
    mine = {
        record.wire_name
        for record in OURS
        if f"@{category}" in words(item.text for item in command_info(record)[6].items)
    }
    assert mine & ours == real & ours


def test_the_categories_are_redis_s(reference: RespClient) -> None:
    assert [name.decode() for name in reference.call("ACL", "CAT")] == list(CATEGORIES)
