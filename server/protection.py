"""Commands that can do harm and are off unless the configuration allows them: DEBUG, and MODULE's loading."""

from __future__ import annotations

from lamina.server.client import Client
from lamina.server.errors import CommandError


def check_allowed(client: Client, setting: str, name: bytes) -> None:
    """Let a client pass if `setting` is yes, or local and the client is. Errors: CommandError."""
    if setting == "yes" or (setting == "local" and is_local(client)):
        return
    raise CommandError(
        b'ERR %b command not allowed. If the enable-%b-command option is set to "local", you can run it '
        b"from a local connection, otherwise you need to set this option in the configuration file, and then "
        b"restart the server." % (name.upper(), name)
    )


def is_local(client: Client) -> bool:
    """Tell whether a client is on this machine: it comes over a Unix socket or the loopback interface."""
    return client.is_unix or client.address.startswith(("127.", "[::1]:"))
