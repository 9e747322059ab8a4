"""Rules: what words make of a user, and how it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.server import commands
from lamina.server.acl.rules import (
    RuleError,
    UnknownNameError,
    UnmatchedError,
    find_command,
    has_spaces,
    merge_selectors,
)
from lamina.server.acl.selector import READ, WRITE, Selector
from lamina.server.acl.user import User, UserRuleError, hash_password
from lamina.server.registry import COMMANDS, DECLARED, all_commands, rename

GROUPS = commands.GROUPS


def user(rules: str = "") -> User:
    made = User(b"u")
    made.obey_all(rules.encode().split(b" "), opens_channels=False)
    return made


def command_rules(rules: str) -> str:
    return user(rules).selectors[0].command_rules.decode()


@pytest.mark.parametrize(
    ("rules", "shown"),
    [
        ("", "-@all"),
        ("+@all -@hash -@slow +hget", "+@all -@hash -@slow +hget"),
        ("+@all -@hash -@slow +hget -@hash", "+@all -@slow +hget -@hash"),
        ("+@all -@slow +hget -@hash +@hash", "+@all -@slow +hget +@hash"),
        ("+@all -@slow +hget -@all", "-@all"),
        ("-@string -@slow +@all", "+@all"),
        ("+@HASH +@hash +@HaSh", "-@all +@hash"),
        ("+HGET +hget +hGeT", "-@all +hget"),
        ("+@hash +@slow +@set +@set +@slow +@hash", "-@all +@set +@slow +@hash"),
        ("+hget -hset +hset -hget", "-@all +hset -hget"),
        ("+client|list +client|list +config|get +config +acl|list -acl", "-@all +client|list +config -acl"),
        ("+select|0 +select|0 +debug|object +debug", "-@all +select|0 +debug"),
        ("-@dangerous", "-@all -@dangerous"),
        ("+config +config|get -config|set +config", "-@all +config"),
        ("+Config|GET +SELECT|A", "-@all +config|get +select|a"),
        ("+get +getset -get", "-@all +getset -get"),
    ],
)
def test_rules_about_commands_are_kept_as_far_as_they_count(rules: str, shown: str) -> None:
    assert command_rules(rules) == shown


def test_what_is_allowed_follows_the_last_word() -> None:
    selector = user("+@read -get +select|0 +config -config|set +@all -acl|list").selectors[0]
    assert not selector.allows_all_commands
    assert selector.allows_new_commands
    get, sub, select = find_command(b"get"), find_command(b"Acl|LIST"), find_command(b"select")
    assert selector.allows_command(get, [b"get", b"k"])
    assert not selector.allows_command(sub, [b"acl", b"list"])
    selector.obey(b"-@all")
    assert not selector.allows_command(get, [b"get", b"k"])
    assert selector.allows_command(find_command(b"auth"), [b"auth", b"x"]), "nobody is kept from logging in"
    selector.obey(b"+select|A")
    assert selector.allows_command(select, [b"select", b"a"])
    assert not selector.allows_command(select, [b"select", b"b"])
    selector.obey(b"-select")
    assert not selector.allows_command(select, [b"select", b"a"])


def test_keys_for_reading_and_writing() -> None:
    selector = user("%R~a %W~a %R~b* %W~c").selectors[0]
    assert selector.key_rules == b"~a %R~b* %W~c"
    assert selector.allows_key(b"a", READ | WRITE)
    assert selector.allows_key(b"bx", READ)
    assert not selector.allows_key(b"bx", WRITE)
    assert selector.allows_key(b"bx", 0), "to ask whether it exists, any permission will do"
    assert not selector.allows_key(b"x", 0)
    assert not selector.allows_every_key(READ)
    assert user("%R~*").selectors[0].allows_every_key(READ)
    assert not user("%R~*").selectors[0].allows_every_key(READ | WRITE)


@pytest.mark.parametrize(
    "word",
    "%~a %R %RR~a %RWW~a %~ foo ~a\tb &a\nb +@ +nosuch -@x + - +|a +config| +config|get|x -select|0".split(
        " "
    ),
)
def test_words_that_make_no_sense(word: str) -> None:
    with pytest.raises(RuleError):
        user().obey(word.encode(), opens_channels=False)


def test_all_keys_or_some() -> None:
    with pytest.raises(RuleError, match="resetkeys"):
        user("allkeys ~a")
    with pytest.raises(RuleError, match="resetchannels"):
        user("&* &a")
    assert user("~a allkeys resetkeys ~b").selectors[0].key_rules == b"~b"
    assert user("~a %RW~* ~b").selectors[0].key_rules == b"~a %RW~* ~b", "which can be given back"
    assert user("~a %R~* %W~*").selectors[0].key_rules == b"~a ~*"


def test_passwords() -> None:
    hashed = hash_password(b"secret")
    assert hashed == b"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    alice = user("on >secret >other")
    assert alice.is_password(b"secret")
    assert alice.is_password(b"other")
    assert not alice.is_password(b"")
    alice.obey(b"!" + hashed, opens_channels=False)
    assert not alice.is_password(b"secret")
    alice.obey(b"nopass", opens_channels=False)
    assert alice.is_password(b"anything")
    alice.obey(b"off", opens_channels=False)
    assert not alice.is_password(b"anything")
    assert not user("on").is_password(b"")
    assert user("on >").is_password(b"")
    with pytest.raises(RuleError, match="does not exist"):
        user("<nobody's")
    with pytest.raises(RuleError, match="64 characters"):
        user("#" + "A" * 64)


def test_a_user_is_described_by_words_that_make_it() -> None:
    rules = (
        "on >a ~b %R~c &d +@all -@write +select|0 (~e +get) (allkeys allchannels allcommands)"
        " skip-sanitize-payload"
    )
    shown = user(rules).describe().decode()
    assert shown == (
        "on skip-sanitize-payload #ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb ~b "
        "%R~c resetchannels &d +@all -@write +select|0 (~e resetchannels -@all +get) (~* &* +@all)"
    )
    assert user(shown).describe().decode() == shown
    assert user().describe() == b"off sanitize-payload resetchannels -@all"
    assert User.unlimited(b"x").describe() == b"on nopass sanitize-payload ~* &* +@all"


WORDS = st.one_of(
    st.sampled_from(
        "on off nopass resetpass >a <a ~a ~b* %R~b* %W~c ~* %RW~* &a &* resetkeys resetchannels +get -get"
        " +@all -@all +@read -@write +config +config|get -config|set +select|0 +SELECT|a reset clearselectors"
        " allcommands allkeys skip-sanitize-payload".split()
    ),
    st.lists(st.sampled_from("~a %R~b +get -@all +@read +@all -acl|list &c".split()), max_size=4).map(
        lambda words: f"({' '.join(words)})"
    ),
)


def permissions(of: User) -> list[tuple[object, ...]]:
    """Return all that selectors allow, beside keys that are allowed twice."""
    return [
        (
            selector.commands if not selector.allows_all_commands else None,
            {command: set(words) for command, words in selector.first_arguments.items()},
            selector.allows_every_key(READ | WRITE) or selector.keys,
            selector.allows_all_channels or selector.channels,
            selector.allows_new_commands,
        )
        for selector in of.selectors
    ]


@given(st.lists(WORDS, max_size=12))
def test_what_is_shown_makes_the_same_user(words: list[str]) -> None:
    first = User(b"u")
    for word in words:
        before = first.describe()
        copy = first.copy()
        try:
            first.obey(word.encode(), opens_channels=False)
        except RuleError:
            assert first.describe() == before, "a word that is refused changes nothing"
        assert copy.describe() == before
    again = user(first.describe().decode())
    assert again.passwords == first.passwords
    assert (again.is_on, again.is_passless) == (first.is_on, first.is_passless)
    assert again.is_limited == first.is_limited
    assert permissions(again) == permissions(first)


def test_selectors_are_split_at_spaces() -> None:
    assert merge_selectors([b"(~a", b"+get)", b"x", b"(y)", b"()"]) == [b"(~a +get)", b"x", b"(y)", b"()"]
    for words in ([b"(~a"], [b"x", b"(", b"a"], [b"()a"]):
        with pytest.raises(UnmatchedError) as caught:
            merge_selectors(words)
        assert caught.value.word.startswith(b"(")
    with pytest.raises(UserRuleError) as refused:
        user("on (~a +get")
    assert refused.value.message == b"Unmatched parenthesis in acl selector starting at '(~a'."
    assert Selector.parse(b"( ~a   +get )", allows_all_channels=True).describe() == b"~a &* -@all +get"
    assert Selector.parse(b'(~a "x)', allows_all_channels=False).describe() == b"resetchannels -@all"


def test_who_is_limited() -> None:
    assert not User.unlimited(b"x").is_limited
    assert user("allkeys allcommands").is_limited
    assert user("allkeys allchannels +@all -ping").is_limited
    assert not user("(allkeys allchannels +@all)").is_limited


def test_names() -> None:
    assert has_spaces(b"a b")
    assert has_spaces(b"a\0")
    assert not has_spaces(b"a\xa0b")
    for name in (b"", b"nosuch", b"config|", b"config|nosuch", b"get|x", b"config|get|x"):
        with pytest.raises(UnknownNameError):
            find_command(name)


def test_commands_that_were_renamed_are_called_by_their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.server.registry.COMMANDS", dict(COMMANDS))
    get = COMMANDS[b"GET"]
    table = dict(COMMANDS)
    rename(b"GET", b"FETCH", table)
    rename(b"SET", b"", table)
    assert find_command(b"get") is get
    assert DECLARED.keys() == COMMANDS.keys()
    assert len(all_commands(declared=True)) == len(all_commands())
    assert user("+@all -@write").selectors[0].allows_command(get, [b"get", b"k"])
