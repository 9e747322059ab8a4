"""CLIENT TRACKING and its relatives: clients that keep copies of what they read and hear of changes."""

from __future__ import annotations

from typing import Any, Final

from lamina.server.args import integer
from lamina.server.client import Client
from lamina.server.errors import SYNTAX, CommandError
from lamina.server.registry import command
from lamina.server.replies import OK, Simple
from lamina.server.tracking import Tracker, redirection

_GROUP: Final = "connection"
_FLAGS: Final = "noscript loading stale"

_ONE_REDIRECT = CommandError(b"ERR A client can only redirect to a single other client")
_NO_REDIRECT_CLIENT = CommandError(b"ERR The client ID you want redirect to does not exist")
_PREFIX_WITHOUT_BCAST = CommandError(b"ERR PREFIX option requires BCAST mode to be enabled")
_BCAST_SWITCHED = CommandError(
    b"ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling "
    b"it with a different mode."
)
_OPT_SWITCHED = CommandError(
    b"ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling "
    b"it with a different mode."
)
_OPT_WITH_BCAST = CommandError(b"ERR OPTIN and OPTOUT are not compatible with BCAST")
_OPTIN_AND_OPTOUT = CommandError(b"ERR You can't specify both OPTIN mode and OPTOUT mode")
_CACHING_WITHOUT_OPT = CommandError(
    b"ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode "
    b"enabled"
)
_CACHING_YES = CommandError(b"ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
_CACHING_NO = CommandError(b"ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")


@command("CLIENT|CACHING", arity=3, flags=_FLAGS, since="6.0.0", complexity="O(1)", group=_GROUP)
def client_caching(client: Client, argv: list[bytes]) -> Simple:
    """Say whether the keys of the next command are tracked, in the modes OPTIN and OPTOUT.

    CLIENT CACHING <YES | NO>
    """
    tracker = client.tracking
    if tracker is None:
        raise _CACHING_WITHOUT_OPT
    word = argv[2].upper()
    if word == b"YES":
        if not tracker.is_optin:
            raise _CACHING_YES
    elif word == b"NO":
        if not tracker.is_optout:
            raise _CACHING_NO
    else:
        raise SYNTAX
    tracker.caching = True
    return OK


@command("CLIENT|GETREDIR", arity=2, flags=_FLAGS, since="6.0.0", complexity="O(1)", group=_GROUP)
def client_getredir(client: Client, argv: list[bytes]) -> int:
    """Return the id of the client that is told of changes in place of this one.

    CLIENT GETREDIR
    """
    return redirection(client)


@command("CLIENT|TRACKINGINFO", arity=2, flags=_FLAGS, since="6.2.0", complexity="O(1)", group=_GROUP)
def client_trackinginfo(client: Client, argv: list[bytes]) -> dict[bytes, Any]:
    """Tell how this connection is tracked.

    CLIENT TRACKINGINFO
    """
    return client.server.tracking.describe(client)


@command(
    "CLIENT|TRACKING",
    arity=-3,
    flags=_FLAGS,
    since="6.0.0",
    complexity="O(1). Some options may introduce additional complexity.",
    group=_GROUP,
)
def client_tracking(client: Client, argv: list[bytes]) -> Simple:
    """Tell this connection when keys change that it has read, or that begin with its prefixes.

    CLIENT TRACKING <ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN]
    [OPTOUT] [NOLOOP]
    """
    wanted, prefixes = _parse_tracking(client, argv)
    word = argv[2].upper()
    if word == b"OFF":
        client.server.tracking.disable(client)
        return OK
    if word != b"ON":
        raise SYNTAX
    if prefixes and not wanted.is_bcast:
        raise _PREFIX_WITHOUT_BCAST
    current = client.tracking
    if current is not None and wanted.is_bcast != current.is_bcast:
        raise _BCAST_SWITCHED
    if wanted.is_bcast and (wanted.is_optin or wanted.is_optout):
        raise _OPT_WITH_BCAST
    if wanted.is_optin and wanted.is_optout:
        raise _OPTIN_AND_OPTOUT
    if current is not None and (
        (wanted.is_optin and current.is_optout) or (wanted.is_optout and current.is_optin)
    ):
        raise _OPT_SWITCHED
    if wanted.is_bcast:
        _check_prefixes(sorted(current.prefixes) if current is not None else [], prefixes)
    client.server.tracking.enable(client, wanted, prefixes)
    return OK


def _parse_tracking(client: Client, argv: list[bytes]) -> tuple[Tracker, list[bytes]]:
    wanted = Tracker()
    prefixes: list[bytes] = []
    at = 3
    while at < len(argv):
        option = argv[at].upper()
        has_value = at + 1 < len(argv)
        if option == b"REDIRECT" and has_value:
            at += 1
            if wanted.redirect:
                raise _ONE_REDIRECT
            wanted.redirect = integer(argv[at])
            if wanted.redirect not in client.server.clients:
                raise _NO_REDIRECT_CLIENT
        elif option == b"PREFIX" and has_value:
            at += 1
            prefixes.append(argv[at])
        elif option == b"BCAST":
            wanted.is_bcast = True
        elif option == b"OPTIN":
            wanted.is_optin = True
        elif option == b"OPTOUT":
            wanted.is_optout = True
        elif option == b"NOLOOP":
            wanted.is_noloop = True
        else:
            raise SYNTAX
        at += 1
    return wanted, prefixes


def _check_prefixes(existing: list[bytes], provided: list[bytes]) -> None:
    """Raise an error if one prefix begins with another: their keys would be told twice."""
    for position, prefix in enumerate(provided):
        for what, others in (
            (b"an existing", existing),
            (b"another provided", provided[position + 1 :]),
        ):
            for other in others:
                if prefix.startswith(other) or other.startswith(prefix):
                    raise CommandError(
                        b"ERR Prefix '%b' overlaps with %b prefix '%b'. "
                        b"Prefixes for a single client must not overlap." % (prefix, what, other)
                    )
