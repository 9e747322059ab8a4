"""Client-side caching: clients are told when what they have read has changed.

A client that turns tracking on is sent an `invalidate` message for every key it may hold a copy of:

    default     the keys of its read commands are remembered until they change, in one table for all clients;
                OPTIN and OPTOUT leave out what CLIENT CACHING says
    BCAST       nothing is remembered: every change of a key under the client's prefixes is told

The message is a RESP3 push, to the client itself or to the one it redirects to; a RESP2 client can be
redirected to if it has subscribed to something. Keys are known by their names alone: the same name in another
database counts as the same key, as in Redis.

Order: a message about a client's own change follows the command's reply (client.py: `push_wire`). What
broadcasting clients are told is gathered during a turn and sent at its end, one message for each prefix.

The table is bounded by tracking-table-max-keys: the key read longest ago is given up, and who has read it is
told it had changed. Ids of clients that have gone stay in it until their keys go.

While nobody tracks, keyspaces are not observed and nothing here is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamina.server.client import SUBSCRIBED, TRACKED, Client
from lamina.server.registry import Command, key_positions
from lamina.server.replies import Push

if TYPE_CHECKING:
    from lamina.server.server import Server

INVALIDATION_CHANNEL = b"__redis__:invalidate"


class Tracker:
    """How one client is tracked: `client.tracking`."""

    __slots__ = (
        "caching",
        "is_bcast",
        "is_broken",
        "is_noloop",
        "is_optin",
        "is_optout",
        "prefixes",
        "redirect",
    )

    def __init__(self) -> None:
        self.is_bcast = False
        self.is_optin = False
        self.is_optout = False
        self.is_noloop = False
        self.redirect = 0
        """Id of the client that is told in this one's place; 0: none."""
        self.is_broken = False
        """Whether the client redirected to has been found gone."""
        self.caching = False
        """Whether CLIENT CACHING speaks of the command under way or the next one."""
        self.prefixes: dict[bytes, None] = {}


class _Prefix:
    """Who is told of keys that begin with one prefix, and which of them have changed in this turn."""

    __slots__ = ("changed", "clients")

    def __init__(self) -> None:
        self.clients: dict[Client, None] = {}
        self.changed: dict[bytes, Client | None] = {}
        """Keys, each with the client that has changed it last."""


class Tracking:
    """The tracked clients of a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.clients: dict[int, Client] = {}
        """Clients that track, by their ids."""
        self.table: dict[bytes, int | set[int]] = {}
        """Keys that have been read, in the order in which they first were, with the ids of the readers. One
        id alone stands for itself: a set takes 216 bytes, and of a million keys most have one reader."""
        self.prefixes: dict[bytes, _Prefix] = {}
        self._prefix_sizes: list[int] = []
        self.is_broadcast_due = False
        """Whether the end of the turn has something to send or to clear."""
        self._is_flush_told = False

    # -- who tracks --------------------------------------------------------------------------------

    def enable(self, client: Client, tracker: Tracker, prefixes: list[bytes]) -> None:
        """Let a client be tracked as `tracker` says, which takes the place of what was before.

        The caller has checked that the two go together.
        """
        if not self.clients:
            for keyspace in self._server.databases.keyspaces:
                keyspace.is_observed = True
        self.clients[client.id] = client
        before = client.tracking
        client.tracking = tracker
        tracker.caching = before is not None and before.caching
        if tracker.is_bcast:
            tracker.prefixes = before.prefixes if before is not None else {}
            for name in prefixes or [b""]:
                tracker.prefixes[name] = None
                self.prefixes.setdefault(name, _Prefix()).clients[client] = None
            self._prefix_sizes = sorted({len(name) for name in self.prefixes})
        client.gate |= TRACKED

    def disable(self, client: Client) -> None:
        """Track a client no more, whether it was or not."""
        tracker = client.tracking
        if tracker is None:
            return
        client.tracking = None
        client.gate &= ~TRACKED
        del self.clients[client.id]
        for name in tracker.prefixes:
            prefix = self.prefixes[name]
            del prefix.clients[client]
            if not prefix.clients:
                del self.prefixes[name]
        self._prefix_sizes = sorted({len(name) for name in self.prefixes})
        if not self.clients:
            self.table.clear()
            for keyspace in self._server.databases.keyspaces:
                keyspace.is_observed = bool(keyspace.watched)

    @property
    def item_count(self) -> int:
        """How many pairs of a key and its reader the table holds, for INFO. Cost: O(keys)."""
        return sum(1 if isinstance(readers, int) else len(readers) for readers in self.table.values())

    # -- what is read ------------------------------------------------------------------------------

    def note_read(self, client: Client, command: Command, argv: list[bytes]) -> None:
        """Remember the keys of a command that has run. Cost: O(keys)."""
        flags = command.flags
        if "readonly" not in flags or "skip_monitor" in flags:  # of a script, what it calls counts
            return
        tracker = client.tracking
        if tracker is None or tracker.is_bcast:
            return
        if (tracker.is_optin and not tracker.caching) or (tracker.is_optout and tracker.caching):
            return
        try:
            positions = key_positions(command, argv)
        except (ValueError, IndexError):
            return
        self._is_flush_told = False
        table, own_id = self.table, client.id
        for position in positions:
            key = argv[position]
            readers = table.get(key)
            if readers is None:
                table[key] = own_id
            elif isinstance(readers, set):
                readers.add(own_id)
            elif readers != own_id:
                table[key] = {readers, own_id}
        keys_max = self._server.config.tracking_table_max_keys
        if keys_max:
            while len(table) > keys_max:
                self._invalidate(next(iter(table)))

    def end_command(self, client: Client, command: Command | None) -> None:
        """A client's command is over: CLIENT CACHING spoke of this one, or of this transaction."""
        tracker = client.tracking
        if tracker is None or not tracker.caching or client.queue is not None:
            return
        if command is None or not command.name.startswith("CLIENT|"):
            tracker.caching = False

    # -- what changes ------------------------------------------------------------------------------

    def note_change(self, key: bytes) -> None:
        """A key has changed: tell those who have read it, and remember to tell those who listen to all."""
        if key in self.table:
            self._invalidate(key)
        if self.prefixes:
            size = len(key)
            for prefix_size in self._prefix_sizes:
                if prefix_size > size:
                    break
                prefix = self.prefixes.get(key[:prefix_size])
                if prefix is not None:
                    prefix.changed[key] = self._server.running
                    self._is_flush_told = False
                    self.is_broadcast_due = True

    def _invalidate(self, key: bytes) -> None:
        readers = self.table.pop(key)
        running = self._server.running
        for client_id in (readers,) if isinstance(readers, int) else readers:
            client = self.clients.get(client_id)
            tracker = client.tracking if client is not None else None
            if client is None or tracker is None or tracker.is_bcast:
                continue  # it has gone, or is tracked otherwise now
            if not (tracker.is_noloop and client is running):
                self._send(client, tracker, [key])

    def note_flush(self) -> None:
        """A database has been emptied: whatever a client holds is void. FLUSHALL, which empties them all, is
        told once."""
        if not self.clients or self._is_flush_told:
            return
        self.table.clear()
        for client in list(self.clients.values()):
            assert client.tracking is not None
            self._send(client, client.tracking, None)
        self._is_flush_told = self.is_broadcast_due = True

    def broadcast(self) -> None:
        """At the end of a turn: send broadcasting clients what has changed in it."""
        self.is_broadcast_due = self._is_flush_told = False
        for prefix in self.prefixes.values():
            changed = prefix.changed
            if not changed:
                continue
            prefix.changed = {}
            for client in prefix.clients:
                tracker = client.tracking
                assert tracker is not None
                if tracker.is_noloop:
                    keys = [key for key, changer in changed.items() if changer is not client]
                else:
                    keys = list(changed)
                if keys:
                    self._send(client, tracker, keys)

    def _send(self, client: Client, tracker: Tracker, keys: list[bytes] | None) -> None:
        """Tell a tracked client, or the one it redirects to, that keys have changed; None is all of them."""
        receiver: Client | None = client
        if tracker.redirect:
            receiver = self._server.clients.get(tracker.redirect)
            if receiver is None or receiver.closing:
                tracker.is_broken = True
                if client.resp == 3:
                    client.push(Push([b"tracking-redir-broken", tracker.redirect]))
                return
        assert receiver is not None
        if receiver.resp == 3:
            receiver.push(Push([b"invalidate", keys]))
        elif tracker.redirect and receiver.gate & SUBSCRIBED:
            receiver.push(Push([b"message", INVALIDATION_CHANNEL, keys]))

    # -- what is told about it ---------------------------------------------------------------------

    def describe(self, client: Client) -> dict[bytes, Any]:
        """Return what CLIENT TRACKINGINFO says."""
        tracker = client.tracking
        if tracker is None:
            flags = [b"off"]
        else:
            flags = [b"on"]
            flags += [b"bcast"] * tracker.is_bcast
            flags += [b"optin"] * tracker.is_optin + [b"caching-yes"] * (tracker.is_optin and tracker.caching)
            flags += [b"optout"] * tracker.is_optout + [b"caching-no"] * (
                tracker.is_optout and tracker.caching
            )
            flags += [b"noloop"] * tracker.is_noloop
            flags += [b"broken_redirect"] * tracker.is_broken
        return {
            b"flags": flags if client.resp == 2 else set(flags),
            b"redirect": redirection(client),
            b"prefixes": sorted(tracker.prefixes) if tracker is not None else [],
        }


def redirection(client: Client) -> int:
    """Return the id of the client that is told in place of `client`; 0: itself, -1: it does not track."""
    return -1 if client.tracking is None else client.tracking.redirect
