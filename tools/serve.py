"""lamina serve: a Redis that keeps its data on disk.

lamina serve [redis.conf] [--port 6379] [--dir .] [--memory 256mb] [--directive value ...]
"""

from __future__ import annotations

import logging
import sys

from lamina.engine import EngineError
from lamina.server.config import Config, ConfigError
from lamina.server.listening import run

_LEVELS = {
    "debug": logging.DEBUG,
    "verbose": logging.INFO,
    "notice": logging.INFO,
    "warning": logging.WARNING,
}


def main(arguments: list[str]) -> int:
    """Run the server until it is told to stop; returns the exit status."""
    config = Config()
    try:
        config.load_command_line(arguments)
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    logging.basicConfig(
        level=_LEVELS[config.loglevel],
        format="%(process)d:M %(asctime)s.%(msecs)03d %(levelname).1s %(message)s",
        datefmt="%d %b %Y %H:%M:%S",
        **({"filename": config.logfile} if config.logfile else {"stream": sys.stdout}),
    )
    for warning in config.warnings:
        logging.warning(warning)
    try:
        return run(config)
    except (OSError, ValueError, EngineError) as error:
        logging.critical("cannot serve: %s", error)
        return 2
