"""What is known of a script while it runs."""

from __future__ import annotations

from enum import Enum, IntEnum
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from lamina.server.errors import CommandError

if TYPE_CHECKING:
    from lamina.server.client import Client

BUSY_WITH_SCRIPT: Final = CommandError(
    b"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
)
BUSY_WITH_FUNCTION: Final = CommandError(
    b"BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
)
NOT_BUSY: Final = CommandError(b"NOTBUSY No scripts in execution right now.")
UNKILLABLE: Final = CommandError(
    b"UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait"
    b" the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
)


LOAD_MAX_NS: Final = 500_000_000
"""The time that the code of a library may take to register its functions."""


class Verdict(IntEnum):
    """Why something that runs has to end."""

    KILLED = 1
    TIMEOUT = 2
    ENDING = 3
    FAULT = 4


VERDICTS: Final = {
    Verdict.KILLED: b"ERR Script killed by user with SCRIPT KILL...",
    Verdict.TIMEOUT: b"ERR FUNCTION LOAD timeout",
    Verdict.ENDING: b"ERR the server ends",
    Verdict.FAULT: b"ERR internal error: the server's log has the details",
}
"""The errors that scripts end with then. Lua is told the number, which takes no memory."""


class Progress(Enum):
    """What a script has changed so far."""

    NOTHING = 0
    ALONE = 1
    """It has written, the first to do so in its turn."""
    WITH_OTHERS = 2


class Execution:
    """One run of a script, of a function, or of a library's code."""

    __slots__ = (
        "argv",
        "client",
        "code",
        "deadline_ns",
        "is_function",
        "is_read_only",
        "keys_count",
        "name",
        "progress",
        "started_ns",
        "verdict",
    )

    def __init__(
        self,
        client: Client | None,
        name: bytes,
        code: Any,
        argv: list[bytes],
        keys_count: int,
        *,
        is_function: bool,
        is_read_only: bool,
    ) -> None:
        self.client = client
        self.name = name
        """The SHA-1 of a script, the name of a function."""
        self.code = code
        """What runs, as Lua has it."""
        self.argv = argv
        self.keys_count = keys_count
        self.is_function = is_function
        self.is_read_only = is_read_only
        self.started_ns = perf_counter_ns()
        self.deadline_ns = 0
        """When it is ended by itself; 0: never."""
        self.progress = Progress.NOTHING
        self.verdict: Verdict | None = None
        """Why it has to end."""

    @property
    def elapsed_ms(self) -> int:
        """How long it has been running."""
        return (perf_counter_ns() - self.started_ns) // 1_000_000

    @property
    def busy_error(self) -> CommandError:
        """What others are answered meanwhile."""
        return BUSY_WITH_FUNCTION if self.is_function else BUSY_WITH_SCRIPT

    def kill(self) -> None:
        """Let it end as soon as it runs again. Errors: CommandError if it has written: half would be lost."""
        if self.progress is not Progress.NOTHING:
            raise UNKILLABLE
        self.verdict = Verdict.KILLED
