"""One set of permissions: commands, patterns of keys, patterns of channels.

A call must be allowed by one selector altogether: command, keys and channels.

    commands   a set, which +name, -name, +@category and -@category change in turn; +@all and -@all begin
               anew. A command that is not in it may be allowed with some first arguments: +select|0
    keys       patterns, each for reading, writing or both
    channels   patterns; who subscribes to a pattern needs that very pattern

The words for commands are kept as they were given, but for those that a later one makes void: so what is
shown can be given back, and means the same when there are new commands.
"""

from __future__ import annotations

from typing import Final

from lamina.server.acl.rules import (
    BAD_WORD,
    FIRST_ARGUMENT_OF_SUBCOMMAND,
    PATTERN_AFTER_ALL_CHANNELS,
    PATTERN_AFTER_ALL_KEYS,
    RuleError,
    UnknownNameError,
    find_command,
    has_spaces,
)
from lamina.server.aclcategories import CATEGORIES, commands_in
from lamina.server.glob import compile_glob
from lamina.server.registry import Command, all_commands
from lamina.server.splitting import split_arguments

READ: Final = 1
WRITE: Final = 2
_BOTH: Final = READ | WRITE

_PREFIXES: Final = {READ: b"%R~", WRITE: b"%W~", _BOTH: b"~"}
_PERMISSIONS: Final = {b"R": READ, b"W": WRITE, b"RW": _BOTH, b"WR": _BOTH}


class Selector:
    """A set of permissions; a new one allows nothing, but all channels if it is told so."""

    __slots__ = (
        "_rules",
        "allows_all_channels",
        "allows_all_commands",
        "allows_all_keys",
        "allows_new_commands",
        "channels",
        "commands",
        "first_arguments",
        "keys",
    )

    def __init__(self, *, allows_all_channels: bool) -> None:
        self.allows_all_commands = False
        self.allows_new_commands = False
        """Whether it began with +@all: then it allows what is not known yet."""
        self.allows_all_keys = False
        self.allows_all_channels = allows_all_channels
        self.commands: set[Command] = set()
        self.first_arguments: dict[Command, list[bytes]] = {}
        """Of commands that are not allowed otherwise: first arguments, in lower case, with which they are."""
        self.keys: dict[bytes, int] = {}
        """Patterns, with what they allow: READ, WRITE or both."""
        self.channels: dict[bytes, None] = {}  # a set that keeps its order
        self._rules: dict[bytes, bytes] = {}
        """What has been said of commands since +@all or -@all, in turn: names, with their signs."""

    @classmethod
    def parse(cls, word: bytes, *, allows_all_channels: bool) -> Selector:
        """Return what a word in parentheses describes. Errors: RuleError."""
        selector = cls(allows_all_channels=allows_all_channels)
        # Unbalanced quotes leave nothing to obey, which Redis takes for an empty selector.
        for inner in split_arguments(word[1:-1]) or ():
            selector.obey(inner)
        return selector

    def copy(self) -> Selector:
        """Return one that allows the same and may be changed by itself."""
        other = Selector(allows_all_channels=self.allows_all_channels)
        other.allows_all_commands = self.allows_all_commands
        other.allows_new_commands = self.allows_new_commands
        other.allows_all_keys = self.allows_all_keys
        other.commands = set(self.commands)
        other.first_arguments = {command: list(words) for command, words in self.first_arguments.items()}
        other.keys = dict(self.keys)
        other.channels = dict(self.channels)
        other._rules = dict(self._rules)
        return other

    @property
    def allows_everything(self) -> bool:
        """Whether there is nothing to check."""
        return self.allows_all_commands and self.allows_all_keys and self.allows_all_channels

    # -- rules -------------------------------------------------------------------------------------

    def obey(self, word: bytes) -> None:
        """Change the permissions as a word says. Errors: RuleError."""
        name = word.lower()
        if name in (b"allkeys", b"~*"):
            self.allows_all_keys = True
            self.keys.clear()
        elif name == b"resetkeys":
            self.allows_all_keys = False
            self.keys.clear()
        elif name in (b"allchannels", b"&*"):
            self.allows_all_channels = True
            self.channels.clear()
        elif name == b"resetchannels":
            self.allows_all_channels = False
            self.channels.clear()
        elif name in (b"allcommands", b"+@all"):
            self._begin(allows_all=True)
        elif name in (b"nocommands", b"-@all"):
            self._begin(allows_all=False)
        elif word.startswith((b"~", b"%")):
            self._add_key_pattern(word)
        elif word.startswith(b"&"):
            self._add_channel_pattern(word[1:])
        elif word.startswith((b"+@", b"-@")):
            self._obey_category(name)
        elif word.startswith(b"+"):
            self._allow(word[1:])
        elif word.startswith(b"-"):
            command = find_command(word[1:])
            self._set_command(command, is_allowed=False)
            self._note(b"-", command.wire_name)
        else:
            raise RuleError(BAD_WORD)

    def _begin(self, *, allows_all: bool) -> None:
        self.allows_all_commands = self.allows_new_commands = allows_all
        self.commands = set(all_commands(declared=True)) if allows_all else set()
        self.first_arguments.clear()
        self._rules.clear()

    def _add_key_pattern(self, word: bytes) -> None:
        if self.allows_all_keys:
            raise RuleError(PATTERN_AFTER_ALL_KEYS)
        kind, tilde, pattern = word.partition(b"~")
        permissions = _PERMISSIONS.get(kind[1:].upper(), 0) if kind else _BOTH
        if not tilde or not permissions or has_spaces(pattern):
            raise RuleError(BAD_WORD)
        self.keys[pattern] = self.keys.get(pattern, 0) | permissions

    def _add_channel_pattern(self, pattern: bytes) -> None:
        if self.allows_all_channels:
            raise RuleError(PATTERN_AFTER_ALL_CHANNELS)
        if has_spaces(pattern):
            raise RuleError(BAD_WORD)
        self.channels[pattern] = None

    def _obey_category(self, name: bytes) -> None:
        category = name[2:].decode("latin-1")
        if category not in CATEGORIES:
            raise UnknownNameError
        for command in commands_in(category, declared=True):
            self._set_command(command, is_allowed=name.startswith(b"+"))
        self._note(name[:1], name[1:])

    def _allow(self, name: bytes) -> None:
        """Obey `+name`, where the name may be that of a subcommand, or end with a first argument."""
        base, bar, argument = name.rpartition(b"|")
        if not bar:
            command = find_command(name)
            self._set_command(command, is_allowed=True)
            self._note(b"+", command.wire_name)
            return
        command = find_command(base)
        if b"|" in base:
            raise RuleError(FIRST_ARGUMENT_OF_SUBCOMMAND)
        if not argument:
            raise RuleError(BAD_WORD)
        if command.subcommands:
            self._set_command(find_command(name), is_allowed=True)
        else:
            words = self.first_arguments.setdefault(command, [])
            if argument.lower() not in words:
                words.append(argument.lower())
        self._note(b"+", name.lower())

    def _set_command(self, command: Command, *, is_allowed: bool) -> None:
        """Allow or forbid a command with all its subcommands."""
        self.first_arguments.pop(command, None)
        affected = (command, *command.subcommands.values())
        if is_allowed:
            self.commands.update(affected)
        else:
            self.commands.difference_update(affected)
            self.allows_all_commands = False

    def _note(self, sign: bytes, name: bytes) -> None:
        """Keep a word about commands; what it makes void is what said the same, or less, before it."""
        narrower = name + b"|"
        self._rules = {
            known: before
            for known, before in self._rules.items()
            if known != name and not known.startswith(narrower)
        }
        self._rules[name] = sign

    # -- what is shown -----------------------------------------------------------------------------

    @property
    def command_rules(self) -> bytes:
        """The words about commands."""
        words = [b"+@all" if self.allows_new_commands else b"-@all"]
        return b" ".join(words + [sign + name for name, sign in self._rules.items()])

    @property
    def key_rules(self) -> bytes:
        """The words about keys."""
        if self.allows_all_keys:
            return b"~*"
        words = [_PREFIXES[permissions] + pattern for pattern, permissions in self.keys.items()]
        # Redis's ~* would be the last word about keys: what follows could not be given back.
        return b" ".join([b"%RW~*" if word == b"~*" else word for word in words[:-1]] + words[-1:])

    @property
    def channel_rules(self) -> bytes:
        """The words about channels."""
        if self.allows_all_channels:
            return b"&*"
        return b" ".join([b"&" + pattern for pattern in self.channels])

    def describe(self) -> bytes:
        """Return words that make a selector like this one."""
        channels = self.channel_rules
        if not self.allows_all_channels:
            channels = b"resetchannels " + channels if self.channels else b"resetchannels"
        keys = [self.key_rules] if self.allows_all_keys or self.keys else []
        return b" ".join([*keys, channels, self.command_rules])

    # -- what is allowed ---------------------------------------------------------------------------

    def allows_command(self, command: Command, argv: list[bytes]) -> bool:
        """Tell whether it allows a command, as far as keys and channels are left aside."""
        if self.allows_all_commands or command in self.commands or "no_auth" in command.flags:
            return True
        words = self.first_arguments.get(command)
        return words is not None and len(argv) > 1 and argv[1].lower() in words

    def allows_key(self, key: bytes, needed: int) -> bool:
        """Tell whether a key may be used, for all that is `needed` of READ and WRITE."""
        if self.allows_all_keys:
            return True
        for pattern, permissions in self.keys.items():
            if permissions & needed == needed and compile_glob(pattern)(key):
                return True
        return False

    def allows_channel(self, channel: bytes, *, is_pattern: bool) -> bool:
        """Tell whether a channel may be used, or a pattern be subscribed to."""
        return self.allows_all_channels or is_channel_in(channel, self.channels, is_pattern=is_pattern)

    def allows_every_key(self, needed: int) -> bool:
        """Tell whether any key at all may be used for what is `needed`."""
        return self.allows_all_keys or self.keys.get(b"*", 0) & needed == needed


def is_channel_in(channel: bytes, patterns: dict[bytes, None], *, is_pattern: bool) -> bool:
    """Tell whether patterns allow a channel, or a pattern of channels: that must be one of them."""
    if is_pattern:
        return channel in patterns
    return any(compile_glob(pattern)(channel) for pattern in patterns)
