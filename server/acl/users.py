"""All users of a server, and what a change of one does to the clients that are logged in as it.

A change holds at once. Whose user is gone is disconnected, and so is who listens to channels that the user
may listen to no longer. Users are not in the database: they come from `user` lines of the configuration file,
which CONFIG REWRITE writes, or from aclfile, which ACL SAVE does.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from lamina.server.acl.access import Denial
from lamina.server.acl.log import AUTH, IN_MULTI, TOPLEVEL, AclLog
from lamina.server.acl.rules import has_spaces
from lamina.server.acl.selector import is_channel_in
from lamina.server.acl.user import DEFAULT, User, UserRuleError
from lamina.server.acl.userfile import UserFileError, read_users, write_users
from lamina.server.client import UNAUTHENTICATED
from lamina.server.clientlist import describe
from lamina.server.errors import WRONG_PASS, CommandError
from lamina.server.parameters import ConfigError

if TYPE_CHECKING:
    from lamina.server.client import Client
    from lamina.server.server import Server

log = logging.getLogger(__name__)

_TWO_SOURCES: Final = (
    "users are declared in the configuration file, and there is an aclfile: declare them either here or there"
)
_NO_FILE: Final = CommandError(
    b"ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the "
    b"ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) "
    b"in order to store users in the Redis configuration."
)
_NOT_SAVED: Final = CommandError(
    b"ERR There was an error trying to save the ACLs. Please check the server logs for more information"
)
_BAD_NAME: Final = CommandError(b"ERR Usernames can't contain spaces or null characters")
_NOT_THE_DEFAULT: Final = CommandError(b"ERR The 'default' user cannot be removed")


class Users:
    """The users of a server. The default user is always there, and always the same object."""

    def __init__(self, server: Server) -> None:
        """Errors: ConfigError, for users that are declared twice or in a file that makes no sense."""
        self._server = server
        self.log = AclLog()
        self.default = User.unlimited(DEFAULT)
        self._by_name = {DEFAULT: self.default}
        config = server.config
        self._take_password()
        if config.users and config.aclfile:
            raise ConfigError(_TWO_SOURCES)
        for name, words in config.users.items():
            self._declare(name, words)
        if config.aclfile:
            try:
                self._adopt(self._read_file())
            except UserFileError as error:
                raise ConfigError(str(error)) from None
        config.on_change("requirepass", self._take_password)

    def _declare(self, name: bytes, words: list[bytes]) -> None:
        """Make a user of a line of the configuration file; that of the default user replaces it."""
        user = User(name, opens_channels=self._opens_channels)
        user.obey_all(words, opens_channels=self._opens_channels)
        if not user.is_on:
            log.info("The user '%s' is disabled (there is no 'on' modifier in its line)", os.fsdecode(name))
        if name == DEFAULT:
            self.default.become(user)
        else:
            self._by_name[name] = user

    @property
    def _opens_channels(self) -> bool:
        return self._server.config.acl_pubsub_default == "allchannels"

    def _take_password(self) -> None:
        """Let the default user have the password that requirepass says, or none."""
        password = self._server.config.requirepass
        for word in (b"resetpass", b">" + password) if password else (b"nopass",):
            self.default.obey(word, opens_channels=False)

    # -- who there is ------------------------------------------------------------------------------

    def get(self, name: bytes) -> User | None:
        """Return the user of that name."""
        return self._by_name.get(name)

    def names(self) -> list[bytes]:
        """Return the names in their order."""
        return sorted(self._by_name)

    def lines(self) -> list[bytes]:
        """Return each user's name and description, as they stand in files behind the word `user`."""
        return [b"%b %b" % (name, self._by_name[name].describe()) for name in self.names()]

    # -- changes -----------------------------------------------------------------------------------

    def change(self, name: bytes, words: list[bytes]) -> None:
        """Change a user, or make it, as words say: all of them or none. Errors: CommandError."""
        if has_spaces(name):
            raise _BAD_NAME
        user = self._by_name.get(name)
        draft = User(name, opens_channels=self._opens_channels) if user is None else user.copy()
        try:
            draft.obey_all(words, opens_channels=self._opens_channels)
        except UserRuleError as error:
            raise CommandError(b"ERR " + error.message) from None
        if user is None:
            self._by_name[name] = draft
            return
        self._end_forbidden_listeners(user, draft)
        user.become(draft)
        for client in self._clients_of(user):
            client.become(user)

    def remove(self, names: list[bytes]) -> int:
        """Remove users, and end their clients' connections; returns how many there were.

        Errors: CommandError.
        """
        if DEFAULT in names:
            raise _NOT_THE_DEFAULT
        removed = [user for user in (self._by_name.pop(name, None) for name in names) if user is not None]
        for user in removed:
            self._end_clients_of(user)
        return len(removed)

    def _clients_of(self, user: User) -> list[Client]:
        return [client for client in self._server.clients.values() if client.user is user]

    def _end_clients_of(self, user: User) -> None:
        for client in self._clients_of(user):
            client.become(self.default)
            client.gate |= UNAUTHENTICATED
            self._end(client)

    def _end(self, client: Client) -> None:
        """End a connection; the one whose command runs gets its reply."""
        if client is self._server.running:
            client.close_after_reply()
        else:
            self._server.kill_client(client)

    def _end_forbidden_listeners(self, before: User, after: User) -> None:
        """End the connections of those who listen to what they may not listen to after a change."""
        if any(selector.allows_all_channels for selector in after.selectors):
            return
        allowed: dict[bytes, None] = {}
        for selector in after.selectors:
            allowed |= selector.channels
        if all(
            not selector.allows_all_channels and selector.channels.keys() <= allowed.keys()
            for selector in before.selectors
        ):
            return
        for client in self._clients_of(before):
            is_allowed = all(pattern in allowed for pattern in client.patterns) and all(
                is_channel_in(channel, allowed, is_pattern=False)
                for channels in (client.channels, client.shard_channels)
                for channel in channels
            )
            if not is_allowed:
                self._end(client)

    # -- the file ----------------------------------------------------------------------------------

    def load(self) -> None:
        """Let the users be those of the file: ACL LOAD. The connections of all but the default user end.

        Errors: CommandError; all is as before then.
        """
        if not self._server.config.aclfile:
            raise _NO_FILE
        try:
            users = self._read_file()
        except UserFileError as error:
            raise CommandError(b"ERR " + error.message) from None
        leaving = [user for user in self._by_name.values() if user is not self.default]
        self._adopt(users)
        for user in leaving:
            self._end_clients_of(user)

    def save(self) -> None:
        """Write the users to the file: ACL SAVE. Errors: CommandError."""
        if not self._server.config.aclfile:
            raise _NO_FILE
        try:
            write_users(self._path, self.lines())
        except OSError as error:
            log.warning("the users cannot be saved: %s", error)
            raise _NOT_SAVED from None

    @property
    def _path(self) -> str:
        return os.path.join(self._server.config.dir, self._server.config.aclfile)

    def _read_file(self) -> dict[bytes, User]:
        shown = self._server.config.aclfile
        return read_users(self._path, shown, opens_channels=self._opens_channels)

    def _adopt(self, users: dict[bytes, User]) -> None:
        """Let these be the users; without a default user among them that is what it is at first."""
        default = users.pop(DEFAULT, None) or User.unlimited(DEFAULT)
        self._end_forbidden_listeners(self.default, default)
        self.default.become(default)
        self._by_name = {DEFAULT: self.default, **users}
        for client in self._clients_of(self.default):
            client.become(self.default)

    # -- clients -----------------------------------------------------------------------------------

    @property
    def needs_login(self) -> bool:
        """Whether connections may do nothing before somebody has logged in."""
        return not (self.default.is_on and self.default.is_passless)

    def authenticate(self, client: Client, name: bytes, password: bytes, argv: list[bytes]) -> None:
        """Log a client in by the command `argv`. Errors: WRONGPASS."""
        user = self._by_name.get(name)
        if user is None or not user.is_password(password):
            self._note(client, reason=AUTH, context=self._context_of(client), subject=argv[0], user=name)
            raise WRONG_PASS
        client.become(user)
        client.gate &= ~UNAUTHENTICATED
        if client.connection is not None:
            client.connection.reader.authenticate()

    def note_denial(self, client: Client, denial: Denial, context: str | None = None) -> None:
        """Log that a call was refused; without `context` it is found out."""
        self._note(
            client,
            reason=denial.reason,
            context=self._context_of(client) if context is None else context,
            subject=denial.subject,
            user=denial.user,
        )

    def _context_of(self, client: Client) -> str:
        # What is queued is refused before EXEC, and what runs in EXEC is not queued any more.
        is_in_transaction = client.queue is not None or self._server.denies_blocking
        return IN_MULTI if is_in_transaction else TOPLEVEL

    def _note(self, client: Client, *, reason: str, context: str, subject: bytes, user: bytes) -> None:
        now_ms = self._server.clock.now_ms
        self.log.add(
            reason=reason,
            context=context,
            subject=subject,
            user=user,
            now_ms=now_ms,
            client_info=describe(client, now_ms),
            size_max=self._server.config.acllog_max_len,
        )
