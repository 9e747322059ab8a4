"""The syntax line of a command as the tree of arguments that COMMAND DOCS shows.

    SET key value [NX | XX] [GET] [EX seconds | PX milliseconds]

    UPPER          a word that is typed as it is; with arguments behind it in the same brackets, their token
    lower          a value; its name tells its type where it is none of text
    [...]          optional           a | b          one of them           (a | b)        the same, required
    x [x ...]      x once or more     [x ...]        x any number of times

Around alternatives < > are the same as ( ), and a bar between two words needs none of them.

Clients draw hints from this; redis-cli does while one types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from lamina.server.replies import Distinct

_tokens = re.compile(r"\.\.\.|[\[\]()|]|[^\s\[\]()|]+").findall

_single_word = re.compile(r"<([^\s<>|\[\]]+)>").sub

_KEYS: Final = frozenset("key source destination sourcekey destkey newkey key1 key2 dst src".split())
_INTEGERS: Final = frozenset(
    "seconds milliseconds count index index1 index2 numkeys offset start stop end cursor increment decrement"
    " db numfields numreplicas numlocal rank len length maxlen limit size bit threshold position from to"
    " min-idle-time ms bits timeout-ms version samples port n lastid-ms max-idle-time destination-db id-count"
    " first last client-id min-match-len entries-read slot start-slot end-slot cluster-bus-port config-epoch"
    " num-matches frequency ttl pause-ms".split()
)
_DOUBLES: Final = frozenset("timeout score longitude latitude radius width height weight".split())
_SCORES: Final = {"min": b"double", "max": b"double"}
_WEIGHTS: Final = {"weight": b"integer"}
_TYPES_IN: Final = {
    "CLIENT|PAUSE": {"timeout": b"integer"},
    "CLUSTER|KEYSLOT": {"key": b"string"},
    "HELLO": {"protover": b"integer"},
    "HINCRBYFLOAT": {"increment": b"double"},
    "INCRBYFLOAT": {"increment": b"double"},
    "MIGRATE": {"timeout": b"integer"},
    "SETBIT": {"value": b"integer"},
    "WAIT": {"timeout": b"integer"},
    "WAITAOF": {"timeout": b"integer"},
    "XAUTOCLAIM": {"start": b"string"},
    "XCLAIM": {"unix-time-ms": b"unix-time"},
    "XPENDING": {"start": b"string", "end": b"string", "min-idle-ms": b"integer"},
    "XRANGE": {"start": b"string", "end": b"string"},
    "XREVRANGE": {"start": b"string", "end": b"string"},
    "XSETID": {"entries-added": b"integer"},
    "XTRIM": {"threshold": b"string"},
    "XADD": {"threshold": b"string"},
    "ZRANGE": {"start": b"string", "stop": b"string"},
    "ZRANGESTORE": {"start": b"string", "stop": b"string"},
    **dict.fromkeys(("ZCOUNT", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZREMRANGEBYSCORE"), _SCORES),
    **dict.fromkeys(("ZINTER", "ZINTERSTORE", "ZUNION", "ZUNIONSTORE"), _WEIGHTS),
}
"""What arguments are in one command, against their names."""
_KEYS_BY_PATTERN: Final = frozenset(("SORT", "SORT_RO"))
"""Commands whose patterns name keys, which have a specification of their own."""

_TIMES: Final = frozenset(
    "unix-time unix-time-seconds unix-time-milliseconds timestamp timestamp-seconds"
    " timestamp-milliseconds".split()
)

_SYMBOLS: Final = frozenset(("*", "$", "=", "~"))
"""Words without letters that are typed as they are."""

Argument = dict[bytes, Any]


def parse_syntax(syntax: str, name: str, spec_count: int = 1) -> list[Argument]:
    """Return the arguments behind the name of the command, which may be two words: CONFIG GET.

    `spec_count` is how many key specifications the command has: its keys belong to them in this order.
    """
    plain = _single_word("\\1", syntax).replace("<", "(").replace(">", ")")
    words = _bracketed(_tokens(plain)[len(name.split("|")) :])
    arguments, end = _parse_sequence(words, 0)
    if end != len(words):
        raise ValueError(f"{name}: brackets that do not match in {syntax!r}")
    types = _TYPES_IN.get(name, {})
    specs = iter(range(spec_count))
    spec = 0
    for argument in _leaves(arguments):
        argument[b"type"] = types.get(argument[b"name"].decode(), argument[b"type"])
        is_key = argument[b"type"] == b"key"
        if is_key or (name in _KEYS_BY_PATTERN and argument[b"type"] == b"pattern"):
            spec = next(specs, spec) if is_key or spec == 0 else spec
            argument[b"key_spec_index"] = spec
        else:
            argument.pop(b"key_spec_index", None)
    return arguments


def _leaves(arguments: list[Argument]) -> Iterator[Argument]:
    """Go through the arguments that have no parts."""
    for argument in arguments:
        if b"arguments" in argument:
            yield from _leaves(argument[b"arguments"])
        else:
            yield argument


def _bracketed(words: list[str]) -> list[str]:
    """Put brackets around alternatives that have none."""
    found: list[str] = []
    depth = 0
    for at, word in enumerate(words):
        next_word = words[at + 1] if at + 1 < len(words) else ""
        is_inside = bool(found) and found[-1] == "|"
        if depth == 0 and next_word == "|" and word not in "])" and not is_inside:
            found.append("(")
        found.append(word)
        depth += (word in "[(") - (word in "])")
        if depth == 0 and is_inside and next_word != "|":
            found.append(")")
    return found


def _parse_sequence(words: list[str], at: int) -> tuple[list[Argument], int]:
    """Return the arguments from `at` to a bracket's end or a bar, and where that is."""
    found: list[Argument] = []
    pending: str | None = None
    while at < len(words) and words[at] not in "])|":
        word = words[at]
        if word in "[(":
            group, at = _parse_group(words, at)
            is_repetition = pending is None and found and _is_repetition_of(found, group)
            if is_repetition:
                _repeat(found, group[b"repeated"])
                continue
            argument = _without_marks(group)
        elif word == "...":
            at += 1
            continue
        else:
            at += 1
            if word == word.upper() and (word in _SYMBOLS or any(map(str.isalpha, word))):
                if pending is not None:
                    found.append(_token(pending))
                pending = word
                continue
            argument = _value(word)
        if pending is not None:
            if argument.get(b"flags") is None and b"token" not in argument:
                argument[b"token"] = pending.encode()
            else:
                found.append(_token(pending))
            pending = None
        found.append(argument)
    if pending is not None:
        found.append(_token(pending))
    return found, at


def _parse_group(words: list[str], at: int) -> tuple[Argument, int]:
    """Return what stands in brackets that open at `at`, and where it goes on behind them."""
    is_optional = words[at] == "["
    branches: list[list[Argument]] = []
    is_multiple = False
    at += 1
    while True:
        start = at
        branch, at = _parse_sequence(words, at)
        is_multiple = is_multiple or (words[at - 1] == "..." and at > start)
        branches.append(branch)
        if at == len(words):
            raise ValueError(f"an open bracket in {' '.join(words)}")
        at += 1
        if words[at - 1] != "|":
            break
    group = _one_of(branches) if len(branches) > 1 else _block(branches[0])
    _flag(group, ["optional"] * is_optional + ["multiple"] * is_multiple)
    group[b"repeated"] = branches[0] if is_multiple and len(branches) == 1 else []
    return group, at


def _one_of(branches: list[list[Argument]]) -> Argument:
    arguments = [_without_marks(_block(branch)) for branch in branches]
    name = b"-or-".join([argument[b"name"] for argument in arguments[:2]])
    return {b"name": name, b"type": b"oneof", b"arguments": arguments}


def _block(branch: list[Argument]) -> Argument:
    """Return several arguments as one. A word before them becomes the token of them all."""
    if len(branch) == 1:
        return dict(branch[0])
    first, *rest = branch
    block: Argument = {b"name": first[b"name"], b"type": b"block"}
    # COUNT count [ANY] is two arguments, the first with a token; LIMIT offset count is one of two parts.
    if b"token" in first and b"flags" not in first and not _has_token(rest[0]):
        block[b"name"] = first[b"token"].lower()
        block[b"token"] = first[b"token"]
        first = {key: value for key, value in first.items() if key != b"token"}
        branch = rest if first[b"type"] == b"pure-token" else [first, *rest]
    block[b"arguments"] = branch
    return block


def _has_token(argument: Argument) -> bool:
    return b"token" in argument or b"arguments" in argument


def _is_repetition_of(found: list[Argument], group: Argument) -> bool:
    repeated = group[b"repeated"]
    names = [argument[b"name"] for argument in repeated]
    return bool(names) and [argument[b"name"] for argument in found[-len(names) :]] == names


def _repeat(found: list[Argument], repeated: list[Argument]) -> None:
    """Let the last arguments be one that may be there several times, as what is repeated looks like them."""
    count = len(repeated)
    last = found[-count:]
    token = repeated[0].get(b"token")
    flags = ["multiple"] if token is None else ["multiple", "multiple_token"]
    if count == 1:
        _flag(last[0], flags)
        return
    block: Argument = {b"name": b"data", b"type": b"block"}
    if token is not None:
        block |= {b"name": token.lower(), b"token": token}
        last[0] = {key: value for key, value in last[0].items() if key != b"token"}
    _flag(block, flags)
    block[b"arguments"] = last
    found[-count:] = [block]


def _flag(argument: Argument, flags: list[str]) -> None:
    """Add flags to an argument, in front of the arguments it consists of."""
    known = [word.text.decode() for word in argument[b"flags"].items] if b"flags" in argument else []
    parts = argument.pop(b"arguments", None)
    if flags or known:
        argument[b"flags"] = Distinct.words(dict.fromkeys(known + flags))
    if parts is not None:
        argument[b"arguments"] = parts


def _without_marks(argument: Argument) -> Argument:
    argument.pop(b"repeated", None)
    return argument


def _token(word: str) -> Argument:
    text = word.encode()
    return {b"name": text.lower(), b"type": b"pure-token", b"display_text": text.lower(), b"token": text}


def _value(word: str) -> Argument:
    name = word.strip("<>\"'").encode()
    argument: Argument = {b"name": name, b"type": _type_of(word), b"display_text": name}
    if argument[b"type"] == b"key":
        argument[b"key_spec_index"] = 0
    return argument


def _type_of(word: str) -> bytes:
    if word in _KEYS:
        return b"key"
    if word in _INTEGERS:
        return b"integer"
    if word in _DOUBLES:
        return b"double"
    if word in _TIMES:
        return b"unix-time"
    return b"pattern" if word.startswith("pattern") else b"string"
