"""Whether a user may make a call, and what is answered if not.

    denial = check_command(client, command, argv)
    if denial is not None: ...

It costs what the rules cost: one look into a set for the command, one match per key and pattern. Dispatch
asks for clients whose gate `RESTRICTED` is closed only; EXEC, scripts and those who wait ask again when the
time has come, as rules may have changed.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from lamina.server.acl.selector import READ, WRITE, Selector
from lamina.server.errors import NO_PERMISSION_CHANNEL, NO_PERMISSION_KEY, CommandError, no_permission_command
from lamina.server.keyspecs import key_specs, key_uses, takes_keys, uses_in_call
from lamina.server.registry import Command

if TYPE_CHECKING:
    from lamina.server.acl.user import User
    from lamina.server.client import Client

COMMAND: Final = "command"
KEY: Final = "key"
CHANNEL: Final = "channel"
_WEIGHTS: Final = {COMMAND: 0, KEY: 1, CHANNEL: 2}
"""Of several selectors' reasons the heaviest is told: that selector came closest."""

_PERMISSIONS: Final = {"access": READ, "insert": WRITE, "delete": WRITE, "update": WRITE}

_CHANNELS: Final = {
    "PUBLISH": (1, 2, False),
    "SPUBLISH": (1, 2, False),
    "SUBSCRIBE": (1, None, False),
    "SSUBSCRIBE": (1, None, False),
    "PSUBSCRIBE": (1, None, True),
}
"""Where channels stand in argv, first and stop, and whether they are patterns. To leave one is allowed."""

_CHANGED: Final = (
    b"NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This "
    b"command is no longer allowed for the following reason: "
)
_CHANGED_REASONS: Final = {
    COMMAND: b"no permission to execute the command or subcommand",
    KEY: b"no permission to touch the specified keys",
    CHANNEL: b"no permission to access one of the channels used as arguments",
}


class Denial(NamedTuple):
    """Why a user may not make a call. `position` is that of the key or channel in argv."""

    reason: str
    position: int
    user: bytes
    command: Command
    argv: list[bytes]

    @property
    def subject(self) -> bytes:
        """The command, key or channel that the user has no permission for."""
        return self.command.wire_name if self.reason == COMMAND else self.argv[self.position]

    @property
    def error(self) -> CommandError:
        """What the call is answered."""
        if self.reason == COMMAND:
            return no_permission_command(self.user, self.command.wire_name)
        return NO_PERMISSION_KEY if self.reason == KEY else NO_PERMISSION_CHANNEL

    @property
    def explanation(self) -> bytes:
        """What ACL DRYRUN says, which names the key or channel."""
        if self.reason == COMMAND:
            return self.error.message.removeprefix(b"NOPERM ")
        return b"User %b has no permissions to access the '%b' %b" % (
            self.user,
            self.subject,
            self.reason.encode(),
        )

    @property
    def error_in_exec(self) -> CommandError:
        """What it is answered if it was allowed when it was queued."""
        return CommandError(_CHANGED + _CHANGED_REASONS[self.reason])

    @property
    def error_in_script(self) -> CommandError:
        """What a script that makes the call is told."""
        return CommandError(b"NOPERM ACL failure in script: " + self.error.message.removeprefix(b"NOPERM "))


def check_command(client: Client, command: Command, argv: list[bytes]) -> Denial | None:
    """Return why a client's user may not make a call, or None if it may: for whoever runs commands.

    The number of arguments has been found to fit.
    """
    return find_denial(client.user, command, argv)


def find_denial(user: User, command: Command, argv: list[bytes]) -> Denial | None:
    """Return why a user may not make a call, or None if one of its selectors allows all of it."""
    found: Denial | None = None
    keys: list[tuple[int, int]] | None = None
    for selector in user.selectors:
        reason, position = COMMAND, 0
        if selector.allows_command(command, argv):
            if keys is None:
                keys = keys_needed(command, argv)
            reason, position = _find_refused(selector, command, argv, keys)
            if not reason:
                return None
        weight = (_WEIGHTS[reason], position)
        if found is None or weight > (_WEIGHTS[found.reason], found.position):
            found = Denial(reason, position, user.name, command, argv)
    return found


def _find_refused(
    selector: Selector, command: Command, argv: list[bytes], keys: list[tuple[int, int]]
) -> tuple[str, int]:
    """Return why a selector refuses keys or channels, and where the first such is; "" if it does not."""
    if not selector.allows_all_keys:
        for position, needed in keys:
            if not selector.allows_key(argv[position], needed):
                return KEY, position
    if not selector.allows_all_channels and command.name in _CHANNELS:
        first, stop, are_patterns = _CHANNELS[command.name]
        for position in range(first, len(argv) if stop is None else stop):
            if not selector.allows_channel(argv[position], is_pattern=are_patterns):
                return CHANNEL, position
    return "", 0


def reads_every_key(user: User, command: Command, argv: list[bytes]) -> bool:
    """Tell whether a user may make a call that reads keys nobody can name before: SORT BY and GET."""
    return any(
        selector.allows_every_key(READ)
        and selector.allows_command(command, argv)
        and not _find_refused(selector, command, argv, keys_needed(command, argv))[0]
        for selector in user.selectors
    )


def keys_needed(command: Command, argv: list[bytes]) -> list[tuple[int, int]]:
    """Return the positions of the keys in a call, each with what is needed of READ and WRITE.

    There are none in a call that makes no sense: its handler will say what is wrong with it.
    """
    plain = _plain_range(command)
    if plain is not None:
        first, last, step, needed = plain
        if needed is None:
            needed = _needed(uses_in_call(command, argv, key_specs(command)[0].flags))
        stop = len(argv) + last + 1 if last < 0 else last + 1
        return [(position, needed) for position in range(first, min(stop, len(argv)), step)]
    if not takes_keys(command):
        return []
    try:
        found = key_uses(command, argv)
    except (ValueError, IndexError):
        return []
    return [(position, _needed(uses)) for position, uses in found]


@cache
def _plain_range(command: Command) -> tuple[int, int, int, int | None] | None:
    """Return first key, last key, step and what is needed, of a command all of whose keys are used alike.

    Nearly all are of this kind, and to look for keys by specifications takes 3 µs. What is needed is
    None where that depends on the call.
    """
    specs = key_specs(command)
    if command.find_keys is not None or len(specs) != 1 or specs[0].is_channel or not specs[0].is_plain:
        return None
    flags = specs[0].flags
    return *command.keys, None if "variable_flags" in flags else _needed(flags)


def _needed(uses: tuple[str, ...]) -> int:
    needed = 0
    for use in uses:
        needed |= _PERMISSIONS.get(use, 0)
    return needed
