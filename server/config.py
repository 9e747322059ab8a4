"""The configuration of one server: every parameter's value, CONFIG GET, CONFIG SET, and who hears of changes.

    config = Config()
    config.port                                     # 6379: values are attributes, under Python's names
    config.set({b"maxclients": b"100"})             # all or nothing
    config.get(b"max*")                             # {b"maxclients": b"100", ...}
    config.on_change("maxclients", server.resize)

Which parameters there are is said in `settings.py` and `inert.py`; the syntax of files and of the command
line is `configfile.py`. Until `freeze()` is called everything can be set; after it what is fixed is refused.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lamina.server import configfile
from lamina.server.acl.rules import DUPLICATE_USER, has_spaces
from lamina.server.acl.user import User, UserRuleError
from lamina.server.directives import BY_NAME, PARAMETERS, find, parse_words
from lamina.server.errors import CommandError
from lamina.server.glob import compile_glob
from lamina.server.inert import INERT, WITHOUT_EFFECT
from lamina.server.parameters import ConfigError, Parameter
from lamina.server.registry import Command, rename
from lamina.server.settings import Settings

__all__ = ["Config", "ConfigError", "Hook"]

log = logging.getLogger(__name__)

_INERT_NAMES = frozenset(parameter.name for parameter in INERT)

Hook = Callable[[], None]


class Config(Settings):
    """All parameters' values, as attributes. They are changed by `set` and `assign` only."""

    def __init__(self, commands: dict[bytes, Command] | None = None) -> None:
        """`commands` is the table that rename-command is to change: its lines are checked against a copy.

        Without it they are only kept.
        """
        self.path: str | None = None
        """The file it was read from, which CONFIG REWRITE writes."""
        self.renamed_commands: list[tuple[bytes, bytes]] = []
        """What rename-command said, in turn: old name, new name; an empty one takes the command away."""
        self.users: dict[bytes, list[bytes]] = {}
        """What `user` lines said: rules by name. They have been found to make sense."""
        self._commands = None if commands is None else dict(commands)
        self.warnings: list[str] = []
        """What to log once there is a log."""
        self._is_frozen = False
        self._hooks: dict[str, list[Hook]] = {}
        for parameter in PARAMETERS:
            setattr(self, parameter.attribute, parameter.default)
        self.dir = os.getcwd()

    def freeze(self) -> None:
        """Refuse changes of fixed parameters from now on: the server has started."""
        self._is_frozen = True

    def load_command_line(self, arguments: list[str]) -> None:
        """Read the file that the first argument names, if it is no option, and then the options.

        Errors: ConfigError, with the place and the line, as redis-server prints it; OSError.
        """
        if arguments and not arguments[0].startswith("--"):
            self.load_file(arguments[0])
            arguments = arguments[1:]
        self.load_arguments(arguments)

    def load_file(self, path: str) -> None:
        """Read a file, which CONFIG REWRITE will write. Errors: ConfigError, with the line; OSError."""
        path = os.path.abspath(path)
        configfile.read_file(path, self._obey, lambda: self.dir)
        self.path = path

    def load_arguments(self, arguments: list[str]) -> None:
        """Read options as redis-server knows them: `--name value ...`. Errors: ConfigError."""
        configfile.read_arguments(arguments, self._obey, lambda: self.dir)

    def rewrite(self, users: list[bytes] | None = None) -> None:
        """Write the configuration back to its file: CONFIG REWRITE. Errors: CommandError.

        `users` are the lines of the ACL's users, without the word `user`; None leaves the file's alone.
        """
        if self.path is None:
            raise CommandError(b"ERR The server is running without a config file")
        values = [(parameter, getattr(self, parameter.attribute)) for parameter in PARAMETERS]
        try:
            text = configfile.rewritten(configfile.read_text(self.path), values, users)
            configfile.replace_file(self.path, text)
        except OSError as error:
            reason = os.fsencode(error.strerror or str(error))
            raise CommandError(b"ERR Rewriting config file: %b" % reason) from error

    def _obey(self, words: list[bytes], is_continued: bool) -> None:
        """Carry out one directive. Errors: ConfigError."""
        name = words[0].lower()
        if name == b"rename-command" and len(words) == 3:
            self._rename(words[1], words[2])
        elif name == b"user" and len(words) > 1:
            self._declare_user(words[1], words[2:])
        elif name == b"loadmodule":
            raise ConfigError("Lamina loads no modules")
        else:
            self.assign(find(name), words[1:], is_continued=is_continued)

    def _declare_user(self, name: bytes, words: list[bytes]) -> None:
        """Keep a user's rules, if they make sense. Errors: ConfigError."""
        if has_spaces(name):
            raise ConfigError("Spaces not allowed in ACL usernames")
        if name in self.users:
            raise ConfigError(f"Error in user declaration '{os.fsdecode(name)}': {DUPLICATE_USER}")
        opens_channels = self.acl_pubsub_default == "allchannels"
        try:
            User(name, opens_channels=opens_channels).obey_all(words, opens_channels=opens_channels)
        except UserRuleError as error:
            raise ConfigError(f"Error in user declaration '{os.fsdecode(error.word)}': {error}") from None
        self.users[name] = words

    def _rename(self, old: bytes, new: bytes) -> None:
        if self._commands is not None:
            try:
                rename(old, new, self._commands)
            except ValueError as error:
                raise ConfigError(str(error)) from None
        self.renamed_commands.append((old, new))

    def on_change(self, name: str, hook: Hook) -> None:
        """Call `hook` after `set` has changed the parameter `name`; once, if it is there for several.

        A hook that raises ConfigError refuses the change: all values of that `set` are put back, and the
        hooks that had run are called again.
        """
        self._hooks.setdefault(find(name.encode()).name, []).append(hook)

    def get(self, pattern: bytes) -> dict[bytes, bytes]:
        """Return the parameters whose names match, as CONFIG GET shows them; aliases count as names."""
        if not any(special in pattern for special in (b"*", b"?", b"[")):
            parameter = BY_NAME.get(pattern.lower())
            return {} if parameter is None else {pattern: self._shown(parameter)}
        matches = compile_glob(pattern, ignore_case=True)
        return {name: self._shown(parameter) for name, parameter in BY_NAME.items() if matches(name)}

    def set(self, changes: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]) -> None:
        """Change parameters, all or none. Errors: CommandError with Redis's texts."""
        pairs = list(changes.items() if isinstance(changes, Mapping) else changes)
        parameters = self._find_changeable([name for name, _ in pairs])
        before: dict[Parameter[Any], Any] = {}
        for parameter, (name, text) in zip(parameters, pairs):
            current = getattr(self, parameter.attribute)
            words = text.split(b" ") if parameter.takes_words else [text]
            try:
                value = parameter.parse(words, current)
            except ConfigError as error:
                self._restore(before)
                raise _set_failed(name, str(error)) from None
            if value != current or parameter.is_content:
                # Of a parameter and its alias in one call, what was there before both counts.
                before.setdefault(parameter, current)
                setattr(self, parameter.attribute, value)
        self._run_hooks(before, dict(zip(parameters, (name for name, _ in pairs))))

    def assign(self, parameter: Parameter[Any], words: list[bytes], *, is_continued: bool = False) -> None:
        """Give a parameter the value that the words of a directive say, without calling hooks.

        `is_continued` for a directive that has been met before in the same file. Errors: ConfigError.
        """
        current = getattr(self, parameter.attribute)
        value = parse_words(parameter, words, current, is_continued=is_continued)
        setattr(self, parameter.attribute, value)
        if parameter.name in _INERT_NAMES and value != parameter.default:
            why = parameter.doc.removeprefix(WITHOUT_EFFECT).removesuffix(".")
            warning = f"{parameter.name} has no effect in Lamina{why}"
            if warning not in self.warnings:
                self.warnings.append(warning)

    def _shown(self, parameter: Parameter[Any]) -> bytes:
        return parameter.format(getattr(self, parameter.attribute))

    def _find_changeable(self, names: list[bytes]) -> list[Parameter[Any]]:
        """Return the parameters of these names. Errors: CommandError, for the first that cannot be set."""
        found: list[Parameter[Any]] = []
        seen: set[bytes] = set()
        for name in names:
            parameter = BY_NAME.get(name.lower())
            if parameter is None:
                raise CommandError(b"ERR Unknown option or number of arguments for CONFIG SET - '%b'" % name)
            if self._is_frozen and parameter.access != "live":
                adjective = "immutable" if parameter.access == "fixed" else "protected"
                raise _set_failed(name, f"can't set {adjective} config")
            if name.lower() in seen:
                raise _set_failed(name, "duplicate parameter")
            seen.add(name.lower())
            found.append(parameter)
        return found

    def _run_hooks(self, before: dict[Parameter[Any], Any], names: dict[Parameter[Any], bytes]) -> None:
        """Tell those who listen of the changes; undo everything if one refuses."""
        called: list[Hook] = []
        for parameter in before:
            for hook in self._hooks.get(parameter.name, ()):
                if hook in called:
                    continue
                called.append(hook)
                try:
                    hook()
                except ConfigError as error:
                    self._restore(before)
                    for undone in called[:-1]:
                        _undo(undone)
                    raise _set_failed(names[parameter], str(error)) from None

    def _restore(self, values: dict[Parameter[Any], Any]) -> None:
        for parameter, value in values.items():
            setattr(self, parameter.attribute, value)


def _undo(hook: Hook) -> None:
    """Let a hook take back what it did, the values being what they were before."""
    try:
        hook()
    except ConfigError as error:
        log.error("a change of the configuration could not be taken back: %s", error)


def _set_failed(name: bytes, reason: str) -> CommandError:
    return CommandError(
        b"ERR CONFIG SET failed (possibly related to argument '%b') - %b" % (name, reason.encode())
    )
