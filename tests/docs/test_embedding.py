"""docs/embedding.md against the engine: its programs run, in order, and print what the page says.

README.md's program runs as well, and links between the pages lead somewhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from lamina.engine import Database, Options

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "embedding.md"

_PROGRAM = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPECTED = re.compile(r"# (?:.* )?-> (.*)$", re.MULTILINE)
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}


def programs(page: Path = PAGE) -> list[tuple[int, str]]:
    """Return the number of the line before each program, and its text."""
    text = page.read_text("utf-8")
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in _PROGRAM.finditer(text)]


def run(program: str, line: int, names: dict[str, Any]) -> list[str]:
    """Run a program of the page and return the lines it prints; tracebacks show the page's line numbers."""
    output = io.StringIO()
    code = compile("\n" * line + program, str(PAGE), "exec")
    with contextlib.redirect_stdout(output), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which the page shows
        exec(code, names)
    return output.getvalue().splitlines()


def test_programs_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    try:
        for line, program in programs():
            expected = _EXPECTED.findall(program)
            printed = run(program, line, names)
            assert printed == expected, f"the program at {PAGE}:{line}"
    finally:
        # Closed already, unless a program has failed.
        for value in names.values():
            if isinstance(value, Database):
                value.close()


def test_the_program_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ((line, program),) = programs(ROOT / "README.md")
    assert run(program, line, {}) == [
        "b'yellow' False",
        "b'fruit:cherry' b'red'",
        "b'fruit:banana' b'yellow'",
        "2 1",
        "False",
    ]


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")) + [ROOT / "README.md"], ids=lambda p: p.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"(?<!!)\[[^\]]*\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_there_are_programs() -> None:
    assert len(programs()) > 20


def default_of(text: str) -> Any:
    """Return the value of a cell such as `True`, 256 MiB or 10."""
    number, _, unit = text.partition(" ")
    if unit:
        return int(number) * _UNITS[unit]
    words = {"True": True, "False": False, "None": None}
    bare = text.strip("`")
    return words[bare] if bare in words else bare.strip("'") if "'" in bare else int(bare)


def test_the_table_of_options_is_that_of_the_code() -> None:
    section = PAGE.read_text("utf-8").split("\n## Options\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE)
    found = {name: default_of(default) for name, default in rows}
    assert found == {field.name: field.default for field in dataclasses.fields(Options)}
    assert list(found) == [field.name for field in dataclasses.fields(Options)]


@pytest.mark.parametrize("name", ["architecture", "embedding", "format"])
def test_links_to_sections_lead_somewhere(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
    titles = re.findall(r"^#+ (.*)$", re.sub(_PROGRAM, "", text), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    anchors |= {f"{anchor}-1" for anchor in anchors}  # of titles that occur twice
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors
