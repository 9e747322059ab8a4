"""Tests written as text: a file of commands and what they print.

    # Level 0 is merged when it holds more files than it may.
    define
    L0 000100:[i - j]
    ----
    ok

    pick level0_files_max=1     # one is enough
    ----
    L0 -> L6: 000100

The whole language:

    file       blank lines, comment lines (`#` first) and cases, in any order
    case       a command line; input lines, if any; `----`; output lines, if any; a blank line or the end
    command    a word, then words and `name=value` options, separated by blanks; quotes as in a shell;
               a word that begins with `#` begins a comment
    input      all lines up to `----`, blank ones too
    output     all lines up to the first blank one. An output with blank lines in it is put between
               `----` doubled, before and after:

                   ----
                   ----
                   first

                   third
                   ----
                   ----

Line ends at the end of an output are not compared. An output line may not be `----`.

A test hands the file to `run_datadriven` with a function from `Case` to the text it prints:

    def test_picker() -> None:
        picker = Picker()

        def run(case: Case) -> str:
            match case.command:
                case "define":
                    return picker.define(case.input)
                case "pick":
                    return picker.pick(case.integer("level0_files_max", 4))
            raise case.unknown()

        run_datadriven(DATA / "level0", run)

With LAMINA_REWRITE=1 in the environment the outputs in the file are replaced by what the function prints, all
else stays as it is, and the test passes: the difference that git shows is then the thing to review.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

REWRITE_VARIABLE = "LAMINA_REWRITE"
SEPARATOR = "----"

# A word of a command line: runs of plain characters and quoted strings.
_WORD = re.compile(r"""(?:[^\s"']|"(?:[^"\\]|\\.)*"|'[^']*')+""")


@dataclass(frozen=True, slots=True)
class Case:
    """One command with its input and the output it should have."""

    path: Path
    line_number: int
    """Of the command line, from 1."""
    command: str
    words: list[str]
    """The arguments that are not options."""
    options: Mapping[str, str]
    input: str
    """Without a line end at its end."""
    expected: str

    def option(self, name: str, default: str | None = None) -> str:
        """Return an option; without a default it must be there."""
        value = self.options.get(name, default)
        if value is None:
            raise ValueError(f"{self}: {self.command} needs {name}=")
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        """Return an option that is a whole number."""
        return int(self.option(name, None if default is None else str(default)))

    def lines(self) -> list[str]:
        """Return the lines of the input."""
        return self.input.split("\n") if self.input else []

    def unknown(self) -> ValueError:
        """Return the error to raise for a command that there is not."""
        return ValueError(f"{self}: unknown command {self.command!r}")

    def __str__(self) -> str:
        return f"{self.path}:{self.line_number}"


@dataclass(frozen=True, slots=True)
class _Section:
    """Lines of the file that are kept as they are, and after them those of one output."""

    kept: list[str]
    case: Case | None
    output: list[str]


def run_datadriven(path: Path, run: Callable[[Case], str], *, rewrite: bool | None = None) -> None:
    """Run every case of a file in order; AssertionError shows all outputs that differ.

    rewrite     write the outputs to the file instead of comparing; by default LAMINA_REWRITE decides
    """
    sections = _parse(path)
    expected: list[str] = []
    found: list[str] = []
    first_different: Case | None = None
    for section in sections:
        expected += section.kept + section.output
        found += section.kept
        if section.case is None:
            continue
        output = _run_case(run, section.case)
        if output == section.case.expected:
            found += section.output
        else:
            first_different = first_different or section.case
            found += _output_lines(output, section.case)
    if first_different is None:
        return
    if os.environ.get(REWRITE_VARIABLE, "0") != "0" if rewrite is None else rewrite:
        path.write_text(_join(found), encoding="utf-8")
        return
    difference = difflib.unified_diff(expected, found, "expected", "found", lineterm="")
    raise AssertionError(
        f"{first_different}: the output differs; with {REWRITE_VARIABLE}=1 it is written to the file\n"
        + "\n".join(difference)
    )


def parse_cases(path: Path) -> list[Case]:
    """Return the cases of a file without running them."""
    return [section.case for section in _parse(path) if section.case is not None]


def _run_case(run: Callable[[Case], str], case: Case) -> str:
    try:
        return run(case).rstrip("\n")
    except Exception as error:
        error.add_note(f"in the case at {case}: {case.command}")
        raise


def _parse(path: Path) -> list[_Section]:
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[-1] == "":
        lines.pop()
    sections: list[_Section] = []
    start = position = 0
    while position < len(lines):
        if not lines[position].strip() or lines[position].startswith("#"):
            position += 1
            continue
        try:
            separator = lines.index(SEPARATOR, position)
        except ValueError:
            raise ValueError(f"{path}:{position + 1}: no {SEPARATOR} after this command") from None
        output_start = separator + 1
        output_end, output = _find_output(path, lines, output_start)
        case = _case(path, position, lines[position:separator], output)
        sections.append(_Section(lines[start:output_start], case, lines[output_start:output_end]))
        start = position = output_end
    sections.append(_Section(lines[start:], None, []))
    return sections


def _find_output(path: Path, lines: list[str], start: int) -> tuple[int, str]:
    """Return the index of the line after an output, and its text."""
    if start < len(lines) and lines[start] == SEPARATOR:
        for end in range(start + 1, len(lines) - 1):
            if lines[end] == lines[end + 1] == SEPARATOR:
                if end + 2 < len(lines) and lines[end + 2]:
                    raise ValueError(f"{path}:{end + 3}: a blank line is missing before this")
                return end + 2, _trimmed(lines[start + 1 : end])
        raise ValueError(f"{path}:{start + 1}: no second pair of {SEPARATOR} after this one")
    end = start
    while end < len(lines) and lines[end]:
        if lines[end] == SEPARATOR:
            raise ValueError(f"{path}:{end + 1}: a blank line is missing before the command here")
        end += 1
    return end, _trimmed(lines[start:end])


def _case(path: Path, position: int, lines: list[str], output: str) -> Case:
    arguments = []
    for word in _WORD.findall(lines[0]):
        if word.startswith("#"):
            break
        arguments.append(shlex.split(word)[0])
    if not arguments:
        raise ValueError(f"{path}:{position + 1}: no command")
    options = dict(word.split("=", 1) for word in arguments[1:] if "=" in word)
    words = [word for word in arguments[1:] if "=" not in word]
    return Case(path, position + 1, arguments[0], words, options, "\n".join(lines[1:]), output)


def _output_lines(output: str, case: Case) -> list[str]:
    lines = output.split("\n") if output else []
    if SEPARATOR in lines:
        raise ValueError(f"{case}: an output line may not be {SEPARATOR}")
    if "" in lines:
        return [SEPARATOR, *lines, SEPARATOR, SEPARATOR]
    return lines


def _trimmed(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip("\n")


def _join(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)
