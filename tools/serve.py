"""lamina serve: a Redis that keeps its data on disk."""

from __future__ import annotations

import logging
import logging.handlers
import os
import platform
import sys
from typing import Final

from lamina.engine import EngineError, LockedError
from lamina.server.applying import LOG_LEVELS, VERBOSE
from lamina.server.config import Config, ConfigError
from lamina.server.listening import run
from lamina.server.registry import COMMANDS
from lamina.server.version import REDIS_VERSION, VERSION

HELP: Final = """\
usage: lamina serve [FILE] [--DIRECTIVE VALUE ...]
       lamina serve --help | --version

Serves a database over Redis's protocol until SIGTERM, SIGINT or the command SHUTDOWN.

  FILE           a configuration file in redis.conf's syntax; one made for redis-server will do
  --DIRECTIVE    any directive of such a file; these come after the file and win over it
  -h, --help     show this
  -v, --version  show versions

directives that matter most, with their defaults:
  --port 6379                  TCP port; 0: none
  --bind 127.0.0.1 -::1        addresses; this machine's own, so others are not let in
  --dir .                      directory of the database's directory, which --dbdirname (lamina) names
  --memory 256mb               memory for data: memtables and caches together
  --appendfsync everysec       when the log is synced: always, everysec, no
  --requirepass PASSWORD       ask clients for a password
  --logfile FILE               log to a file; "" is standard output
  --loglevel notice            debug, verbose, notice, warning

docs/configuration.md lists all of them; CONFIG GET '*' shows the values of a server that runs.

examples:
  lamina serve
  lamina serve /etc/lamina.conf
  lamina serve --port 7000 --dir /var/lib/lamina --memory 1gb --save ''
  lamina serve --port 0 --unixsocket /run/lamina.sock --unixsocketperm 770

exit status: 0 after a clean end; 1 if what was written last may not be on the disk; 2 if the server could not
start: the configuration, an address in use, a database that another process has open.
"""

_NOT_HERE: Final = {
    "--sentinel": "there is no Sentinel mode",
    "--test-memory": "it does not test the machine's memory",
    "--check-system": "it does not check the system's settings",
}
"""What redis-server does instead of serving, if it is told so."""

_MARKS: Final = {
    logging.DEBUG: ".",
    VERBOSE: "-",
    logging.INFO: "*",
    logging.WARNING: "#",
    logging.ERROR: "#",
    logging.CRITICAL: "#",
}
"""How Redis marks lines of the log by their level."""


def main(arguments: list[str]) -> int:
    """Run the server until it is told to stop; returns the exit status."""
    if "--help" in arguments or arguments[:1] == ["-h"]:
        sys.stdout.write(HELP)
        return 0
    if "--version" in arguments or arguments[:1] == ["-v"]:
        sys.stdout.write(version_line())
        return 0
    for argument in arguments:
        if argument in _NOT_HERE:
            sys.stderr.write(f"lamina serve: no {argument}: {_NOT_HERE[argument]}\n")
            return 2
    try:
        config = _configuration(arguments)
        _enter(config.dir)
        _log_to(config.logfile, config.loglevel)
    except ConfigError as error:
        sys.stderr.write(f"\n{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"Fatal error, {error.strerror or error}\n")
        return 2
    for warning in config.warnings:
        logging.warning(warning)
    try:
        return run(config)
    except LockedError as error:
        path = os.path.join(config.dir, config.dbdirname)
        reason = str(error).partition(";")[0]  # what follows is for programs that embed the engine
        logging.critical("cannot serve: another process has the database %s open (%s)", path, reason)
    except (OSError, ValueError, EngineError) as error:
        logging.critical("cannot serve: %s", error)
    return 2


def version_line() -> str:
    """Return what `lamina serve --version` says."""
    python = platform.python_version()
    return f"Lamina server v={VERSION} redis={REDIS_VERSION} python={python}\n"


def _configuration(arguments: list[str]) -> Config:
    """Return what the command line says. Errors: ConfigError; OSError that names the file."""
    config = Config(COMMANDS)
    try:
        config.load_command_line(arguments)
    except OSError as error:
        path = os.path.abspath(arguments[0])
        raise OSError(error.errno, f"can't open config file '{path}': {error.strerror}") from error
    return config


def _enter(directory: str) -> None:
    """Let relative paths start from a directory. Errors: OSError that names it."""
    try:
        os.chdir(directory)
    except OSError as error:
        raise OSError(error.errno, f"can't chdir to '{directory}': {error.strerror}") from error


def _log_to(path: str, level: str) -> None:
    """Send the log to a file, or to standard output without one. Errors: OSError that names the file."""
    handler: logging.Handler
    if path:
        try:
            # Follows a file that logrotate moves away, as Redis does, which opens it for each line.
            handler = logging.handlers.WatchedFileHandler(path)
        except OSError as error:
            raise OSError(error.errno, f"can't open the log file '{path}': {error.strerror}") from error
    else:
        handler = logging.StreamHandler(sys.stdout)
    for number, mark in _MARKS.items():
        logging.addLevelName(number, mark)
    logging.basicConfig(
        format="%(process)d:M %(asctime)s.%(msecs)03d %(levelname)s %(message)s",
        datefmt="%d %b %Y %H:%M:%S",
        handlers=[handler],
    )
    logging.getLogger("lamina").setLevel(LOG_LEVELS[level])
