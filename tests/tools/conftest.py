"""Fixtures of the tools' tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from harness.servers import start_lamina, start_redis
from lamina.tools.cli import main

__all__ = ["start_lamina", "start_redis"]


class Outcome(NamedTuple):
    """What a verb has said. `json` parses its standard output."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def lamina(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs `lamina` with its arguments, in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Outcome(status, out, err)

    return run
