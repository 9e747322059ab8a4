"""The `lamina` command itself: verbs, help, and what each of them imports."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

from lamina.server.version import VERSION
from lamina.tools.cli import VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_module_with_a_main(verb: str) -> None:
    module, summary = VERBS[verb]
    main = importlib.import_module(module).main
    assert list(inspect.signature(main).parameters) == ["arguments"]
    assert summary
    assert not summary.endswith(".")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help(verb: str, lamina) -> None:
    outcome = lamina(verb, "--help")
    assert outcome.status == 0
    assert f"usage: lamina {verb}" in outcome.out
    assert "exit status:" in outcome.out


def test_help_lists_the_verbs(lamina) -> None:
    outcome = lamina("--help")
    assert outcome.status == 0
    assert all(f"  {verb} " in outcome.out for verb in VERBS)
    assert lamina("--version").out == f"lamina {VERSION}\n"


def test_no_verb_and_unknown_verbs_are_usage_errors(lamina) -> None:
    assert lamina().status == 2
    outcome = lamina("mend")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("lamina: no verb 'mend'\n")


def test_a_verb_is_imported_when_it_is_run() -> None:
    program = (
        "import sys\n"
        "from lamina.tools.cli import main\n"
        "assert main(['serve', '--version']) == 0\n"
        "assert 'lamina.tools.serve' in sys.modules\n"
        "assert 'lamina.tools.console' not in sys.modules\n"
        "assert 'rich' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)
