"""Finding a configuration parameter by its name."""

from __future__ import annotations

from typing import Any, Final

from lamina.server.inert import INERT
from lamina.server.parameters import ConfigError, Parameter
from lamina.server.settings import Settings

PARAMETERS: Final[tuple[Parameter[Any], ...]] = (
    *(parameter for parameter in vars(Settings).values() if isinstance(parameter, Parameter)),
    *INERT,
)
"""Every parameter, those that do something first."""

BY_NAME: Final = {name.encode(): parameter for parameter in PARAMETERS for name in parameter.names}
"""Every parameter by its name, and by its alias if it has one."""

BAD_DIRECTIVE: Final = "Bad directive or wrong number of arguments"


def find(name: bytes) -> Parameter[Any]:
    """Return the parameter of that name or alias, in any case. Errors: ConfigError."""
    parameter = BY_NAME.get(name.lower())
    if parameter is None:
        raise ConfigError(BAD_DIRECTIVE)
    return parameter


def parse_words(parameter: Parameter[Any], words: list[bytes], current: Any, *, is_continued: bool) -> Any:
    """Return the value that the words behind a directive give. Errors: ConfigError.

    `current` is the value until now; `is_continued` says that the same source had this directive before.
    """
    if not words or (len(words) != 1 and not parameter.takes_words):
        raise ConfigError("wrong number of arguments")
    return parameter.append(words, current) if is_continued else parameter.parse(words, current)
