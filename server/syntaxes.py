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
from typing import Any, Final

from lamina.server.replies import Distinct

_tokens = re.compile(r"\.\.\.|[\[\]()|]|[^\s\[\]()|]+").findall

_single_word = re.compile(r"<([^\s<>|\[\]]+)>").sub

_KEYS: Final = frozenset("key source destination sourcekey destkey newkey key1 key2 dst src".split())
_INTEGERS: Final = frozenset(
    "seconds milliseconds count index index1 index2 numkeys offset start stop end cursor increment decrement"
    " db numfields numreplicas numlocal rank len length maxlen limit size bit threshold position from to"
    " min-idle-time ms bits timeout-ms version samples port n lastid-ms max-idle-time destination-db id-count"
    " first last client-id min-match-len entries-read".split()
)
_DOUBLES: Final = frozenset("timeout score longitude latitude radius width height weight".split())
_TIMES: Final = frozenset(
    "unix-time unix-time-seconds unix-time-milliseconds timestamp timestamp-seconds"
    " timestamp-milliseconds".split()
)

Argument = dict[bytes, Any]


def parse_syntax(syntax: str, name: str) -> list[Argument]:
    """Return the arguments behind the name of the command, which may be two words: CONFIG GET."""
    plain = _single_word("\\1", syntax).replace("<", "(").replace(">", ")")
    words = _bracketed(_tokens(plain)[len(name.split("|")) :])
    arguments, end = _parse_sequence(words, 0)
    if end != len(words):
        raise ValueError(f"{name}: brackets that do not match in {syntax!r}")
    return arguments


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
                _repeat(found, len(group[b"repeated"]))
                continue
            argument = _without_marks(group)
        elif word == "...":
            at += 1
            continue
        else:
            at += 1
            if word == word.upper() and any(character.isalpha() for character in word):
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
    if b"token" in first and len(branch) > 1:
        block[b"name"] = first[b"token"].lower()
        block[b"token"] = first[b"token"]
        first = {key: value for key, value in first.items() if key != b"token"}
        branch = rest if first[b"type"] == b"pure-token" else [first, *rest]
    block[b"arguments"] = branch
    return block


def _is_repetition_of(found: list[Argument], group: Argument) -> bool:
    repeated = group[b"repeated"]
    names = [argument[b"name"] for argument in repeated]
    return bool(names) and [argument[b"name"] for argument in found[-len(names) :]] == names


def _repeat(found: list[Argument], count: int) -> None:
    """Let the last `count` arguments be one that may be there several times."""
    last = found[-count:]
    if count == 1:
        _flag(last[0], ["multiple"])
        return
    block: Argument = {b"name": b"data", b"type": b"block"}
    _flag(block, ["multiple"])
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
