"""COMMAND and what it is made of: key specifications, categories, arguments, the page of all commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.local import LocalClient
from lamina.server import commandpage
from lamina.server.aclcategories import CATEGORIES, categories_of, commands_in
from lamina.server.commanddocs import command_docs, command_info
from lamina.server.errors import CommandError
from lamina.server.keyspecs import key_specs, plain_keys, takes_keys
from lamina.server.registry import COMMANDS, Command, all_commands, key_positions
from lamina.server.replies import Distinct, encode
from lamina.server.syntaxes import parse_syntax

ROOT = Path(__file__).parents[3]
LEAVES = [record for record in all_commands() if not record.subcommands]


def by_name(name: str) -> Command:
    container, _, rest = name.partition("|")
    record = COMMANDS[container.encode()]
    return record.subcommands[rest.encode()] if rest else record


# --- COMMAND


def test_count_and_list(local: LocalClient) -> None:
    assert local("COMMAND", "COUNT") == len(COMMANDS) == len(local("COMMAND"))
    names = local("COMMAND", "LIST")
    assert len(names) == len(set(names)) == len(all_commands())
    assert b"config|get" in names


def test_info_of_some_and_of_all(local: LocalClient) -> None:
    (get, nothing, config) = local("COMMAND", "INFO", "GET", "nosuch", "config|get")
    assert get[:6] == [b"get", 2, [b"readonly", b"fast"], 1, 1, 1]
    assert nothing is None
    assert config[0] == b"config|get"
    assert local("COMMAND", "INFO") == local("COMMAND")


def test_docs_in_resp3(local: LocalClient) -> None:
    local.client.resp = 3
    docs = local("COMMAND", "DOCS", "config", "set", "nosuch")
    assert list(docs) == [b"config", b"set"]
    assert docs[b"set"][b"group"] == b"string"
    assert docs[b"config"][b"subcommands"][b"config|get"][b"since"] == b"2.0.0"
    assert local("COMMAND", "DOCS").keys() == {record.wire_name for record in COMMANDS.values()}


@pytest.mark.parametrize("record", all_commands(), ids=lambda record: record.name)
def test_everything_can_be_said_of_every_command(record: Command) -> None:
    for resp in (2, 3):
        assert encode(command_info(record), resp)
        assert encode(command_docs(record), resp)
    assert set(categories_of(record)) <= set(CATEGORIES)
    assert ("fast" in categories_of(record)) != ("slow" in categories_of(record))


def test_filters(local: LocalClient) -> None:
    assert local("COMMAND", "LIST", "FILTERBY", "PATTERN", "GETR*") == [b"getrange"]
    assert set(local("COMMAND", "LIST", "FILTERBY", "ACLCAT", "Transaction")) == {
        record.wire_name for record in commands_in("transaction")
    }
    assert local("COMMAND", "LIST", "FILTERBY", "MODULE", "any") == []


def test_getkeys(local: LocalClient) -> None:
    assert local("COMMAND", "GETKEYS", "MSET", "a", 1, "b", 2) == [b"a", b"b"]
    assert local("COMMAND", "GETKEYS", "ZUNIONSTORE", "d", 3, "a", "b") == CommandError(
        b"ERR Invalid arguments specified for command"
    )
    assert local("COMMAND", "GETKEYSANDFLAGS", "SET", "a", 1, "GET") == [
        [b"a", [b"RW", b"access", b"update"]]
    ]


def test_help_lists_the_subcommands(local: LocalClient) -> None:
    lines = local("COMMAND", "HELP")
    assert b"GETKEYS command [arg ...]" in lines
    assert lines[-2:] == [b"HELP", b"    Print this help."]


# --- Key specifications


SAMPLES = {
    "BITOP": "bitop and d a b",
    "GEORADIUS": "georadius k 0 0 1 m withcoord store d",
    "GEORADIUSBYMEMBER": "georadiusbymember k m 1 m storedist d",
    "XREAD": "xread count 1 block 0 streams a b 0 0",
    "XREADGROUP": "xreadgroup group g c streams a b > >",
    "MIGRATE": "migrate h 1 k 0 10",
    "EVAL": "eval s 2 a b c",
    "EVALSHA": "evalsha s 2 a b c",
    "EVAL_RO": "eval_ro s 2 a b c",
    "EVALSHA_RO": "evalsha_ro s 2 a b c",
    "FCALL": "fcall s 2 a b c",
    "FCALL_RO": "fcall_ro s 2 a b c",
    "BLMPOP": "blmpop 0 2 a b left",
    "BZMPOP": "bzmpop 0 2 a b min",
}
"""Calls of commands whose keys are not told from their arity."""


def sample_call(record: Command) -> list[bytes]:
    """Return a call with the fewest arguments; those that count keys say 1."""
    if record.name in SAMPLES:
        return SAMPLES[record.name].encode().split()
    argv = [f"a{number}".encode() for number in range(max(record.argc_min, 4))]
    for spec in key_specs(record):
        if spec.is_counted:
            argv[spec.start] = b"1"
    return argv


@pytest.mark.parametrize(
    "record", [record for record in LEAVES if takes_keys(record)], ids=lambda record: record.name
)
def test_specifications_find_the_keys_that_the_server_finds(record: Command) -> None:
    call = sample_call(record)
    places = [at for spec in key_specs(record) for at in spec.find(call)]
    assert sorted(places) == sorted(key_positions(record, call))


@pytest.mark.parametrize(
    "record", [record for record in LEAVES if record.keys.first], ids=lambda record: record.name
)
def test_the_plain_range_is_the_declared_one(record: Command) -> None:
    specs = [spec for spec in key_specs(record) if spec.is_plain]
    assert plain_keys(record) == record.keys
    assert specs[0].start == record.keys.first


def test_keywords_are_searched_from_both_ends() -> None:
    spec = next(spec for spec in key_specs_of("MIGRATE") if spec.keyword)
    call = b"migrate h 1".split() + [b""] + b"0 10 KEYS a b".split()
    assert spec.find(call) == [7, 8]
    assert spec.find(b"migrate h 1 k 0 10".split()) == []
    streams = key_specs_of("XREAD")[0]
    assert streams.find(b"xread count 1 streams a b 0 0".split()) == [4, 5]


def key_specs_of(name: str) -> Any:
    """Return the specifications of a command that may not be there yet."""
    record = Command(
        name,
        by_name("PING").handler,
        arity=-2,
        flags="write",
        keys=by_name("PING").keys,
        find_keys=None,
        since="1.0.0",
        complexity="",
        group="generic",
        notes=(),
    )
    return key_specs(record)


# --- Arguments


def outline(arguments: list[dict[bytes, Any]]) -> list[Any]:
    """Return arguments in short: name, what is special about it, and its parts."""
    found: list[Any] = []
    for argument in arguments:
        words = [argument[b"name"].decode()]
        if argument[b"type"] not in (b"string", b"key", b"integer"):
            words.append(argument[b"type"].decode())
        if b"token" in argument and argument[b"type"] != b"pure-token":
            words.append(argument[b"token"].decode())
        if b"flags" in argument:
            flags = argument[b"flags"]
            assert isinstance(flags, Distinct)
            words += [flag.text.decode() for flag in flags.items]
        found.append(" ".join(words))
        if b"arguments" in argument:
            found.append(outline(argument[b"arguments"]))
    return found


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        ("X", []),
        ("X key", ["key"]),
        ("X key [key ...]", ["key multiple"]),
        ("X [key [key ...]]", ["key multiple optional"]),
        ("X key value [key value ...]", ["data block multiple", ["key", "value"]]),
        ("X [pattern ...]", ["pattern pattern optional multiple"]),
        ("X [COUNT count]", ["count COUNT optional"]),
        ("X [LIMIT offset count]", ["limit block LIMIT optional", ["offset", "count"]]),
        ("X [NX | XX]", ["nx-or-xx oneof optional", ["nx pure-token", "xx pure-token"]]),
        ("X LEFT | RIGHT key", ["left-or-right oneof", ["left pure-token", "right pure-token"], "key"]),
        ("X <ON | OFF>", ["on-or-off oneof", ["on pure-token", "off pure-token"]]),
        ("X <count>", ["count"]),
        ("X GROUP group", ["group GROUP"]),
        ("X [GET pattern [GET pattern ...]]", ["pattern pattern GET multiple multiple_token optional"]),
        (
            "X [EX seconds | PERSIST]",
            ["seconds-or-persist oneof optional", ["seconds EX", "persist pure-token"]],
        ),
    ],
)
def test_syntax_as_arguments(syntax: str, expected: list[Any]) -> None:
    assert outline(parse_syntax(syntax, "X")) == expected


@pytest.mark.parametrize("syntax", ["X [a", "X a]", "X (a | b"])
def test_brackets_that_do_not_match(syntax: str) -> None:
    with pytest.raises(ValueError, match="bracket"):
        parse_syntax(syntax, "X")


# --- docs/commands.md


def test_the_page_is_up_to_date() -> None:
    written = (ROOT / "docs" / "commands.md").read_text()
    assert written == commandpage.page(), "run `make docs`, or python -m lamina.server.commandpage"


def test_every_command_has_its_line() -> None:
    page = commandpage.page()
    for record in LEAVES:
        assert f"| `{record.syntax.replace('|', chr(92) + '|')}` |" in page


def test_what_is_missing_is_said() -> None:
    assert commandpage.missing([], "transactions") == ["DISCARD", "EXEC", "MULTI", "UNWATCH", "WATCH"]
    records = [by_name("CONFIG"), by_name("CONFIG|GET")]
    absent = commandpage.missing(records, "server")
    assert "CONFIG|SET" in absent
    assert "LATENCY" in absent
    assert "LATENCY|RESET" not in absent
