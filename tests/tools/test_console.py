"""What the verbs share: arguments, errors, the lock, progress, texts."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina import engine
from lamina.tools import console


def verb(body: Callable[[argparse.Namespace], int], *arguments: str) -> int:
    parser = console.parser("try", "tries", "examples:\n  lamina try\n")
    parser.add_argument("directory", metavar="DIR", nargs="?")
    return console.run(parser, body, list(arguments))


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def body(arguments: argparse.Namespace) -> int:
        raise error

    return body


# -- running a verb --------------------------------------------------------------------------------


def test_the_body_gets_the_arguments_and_decides_the_status() -> None:
    seen: list[argparse.Namespace] = []

    def body(arguments: argparse.Namespace) -> int:
        seen.append(arguments)
        return console.FINDINGS

    assert verb(body, "here", "--json") == 1
    assert vars(seen[0]) == {"directory": "here", "json": True, "quiet": False}


def test_help_is_shown_with_its_epilog(capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(raising(AssertionError()), "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: lamina try")
    assert "examples:\n  lamina try\n" in out
    assert out.endswith(console.EXIT_STATUS)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (console.UsageError("--start without --stop"), "--start without --stop"),
        (FileNotFoundError(2, "No such file or directory", "/a/b"), "/a/b: No such file or directory"),
        (OSError("strange"), "strange"),
        (engine.FormatVersionError("x: version 9"), "x: version 9"),
    ],
)
def test_errors_are_a_line_and_status_2(
    error: Exception, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(raising(error)) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"lamina try: {text}\n")


def test_wrong_arguments_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(lambda arguments: 0, "--unknown") == 2
    err = capsys.readouterr().err
    assert err.startswith("lamina try: unrecognized arguments: --unknown\nusage: lamina try ")


def test_bugs_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        verb(raising(ZeroDivisionError()))


def test_an_interrupt_ends_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_who_goes_away_is_no_error() -> None:
    program = (
        "import sys\n"
        "from lamina.tools import console\n"
        "def body(arguments):\n"
        "    for _ in range(100000): sys.stdout.write('x' * 100)\n"
        "    return 0\n"
        "sys.exit(console.run(console.parser('try', 'tries'), body, []))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


# -- databases -------------------------------------------------------------------------------------


def test_a_database_is_told_from_other_folders(tmp_path: Path) -> None:
    inner = tmp_path / "lamina"
    engine.open(inner, background="inline").close()
    assert console.database_directory(str(inner)) == str(inner)
    with pytest.raises(console.UsageError, match="there is one in"):
        console.database_directory(str(tmp_path))
    with pytest.raises(console.UsageError, match="no such folder"):
        console.database_directory(str(tmp_path / "nowhere"))
    (inner / "MANIFEST").unlink()
    console.database_directory(str(inner))  # without its manifest it is still one
    for name in os.listdir(inner):
        (inner / name).unlink()
    with pytest.raises(console.UsageError, match="there is no database here"):
        console.database_directory(str(inner))


@pytest.mark.parametrize("writes", [False, True])
def test_a_live_database_is_refused(writes: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def body(arguments: argparse.Namespace) -> int:
        with console.offline(str(tmp_path), writes=writes):
            return 0

    with engine.open(tmp_path, background="inline"):
        assert verb(body) == 2
    err = capsys.readouterr().err
    assert f"the database is in use by process {os.getpid()}: stop it, or use BGSAVE or lamina" in err
    assert verb(body) == 0


def test_the_lock_is_held_meanwhile(tmp_path: Path) -> None:
    engine.open(tmp_path, background="inline").close()
    with (
        console.offline(str(tmp_path), writes=False),
        pytest.raises(engine.LockedError),
    ):
        engine.open(tmp_path, background="inline")
    engine.open(tmp_path, background="inline").close()


def test_reading_leaves_no_lock_file_behind(tmp_path: Path) -> None:
    with console.offline(str(tmp_path), writes=False):
        pass
    assert os.listdir(tmp_path) == []
    with console.offline(str(tmp_path), writes=True):
        pass
    assert os.listdir(tmp_path) == ["LOCK"]


# -- progress --------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["bytes", "entries"])
@pytest.mark.parametrize("silent", [False, True])
def test_progress_is_drawn_on_terminals_only(unit: str, silent: bool) -> None:
    program = (
        "from lamina.tools.console import Progress\n"
        f"with Progress('working', 10, unit={unit!r}, silent={silent}) as progress:\n"
        "    for _ in range(10): progress.advance(1)\n"
        "    assert progress.done == 10\n"
        "    progress.begin('more')\n"
        "    progress.advance(3)\n"
        "    assert progress.done == 3\n"
    )
    parent, child = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=child,
        env=os.environ | {"TERM": "xterm"},
    ) as process:
        os.close(child)
        drawn = b""
        while True:
            try:
                piece = os.read(parent, 65536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            drawn += piece
        assert process.stdout is not None
        assert process.stdout.read() == b""
        assert process.wait(60) == 0, drawn
    os.close(parent)
    assert (b"working" in drawn) is not silent
    quiet = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert (quiet.stdout, quiet.stderr) == (b"", b"")


# -- texts -----------------------------------------------------------------------------------------


def test_bytes_are_shown_as_redis_cli_shows_them() -> None:
    assert console.text_of(b'user:1 "x"\\\n\r\t\a\b\x00\xff') == 'user:1 "x"\\\\\\n\\r\\t\\a\\b\\x00\\xff'
    assert console.bytes_of("ü") == "ü".encode()
    assert console.bytes_of('\\"') == b'"'


@given(st.binary())
def test_texts_stand_for_the_bytes_they_show(data: bytes) -> None:
    assert console.bytes_of(console.text_of(data)) == data


@pytest.mark.parametrize("text", ["\\", "\\q", "\\x", "\\xg0", "a\\x1"])
def test_escapes_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(console.UsageError, match="means nothing"):
        console.bytes_of(text)


class Pair(NamedTuple):
    key: bytes
    size: int


def test_json_takes_bytes_and_tuples(capsys: pytest.CaptureFixture[str]) -> None:
    value = {b"\x00": [Pair(b"a\xff", 1), (1, None)], 2: {True}, "x": 0.5}
    console.print_json(value)
    expected = {"\\x00": [{"key": "a\\xff", "size": 1}, [1, None]], "2": [True], "x": 0.5}
    assert json.loads(capsys.readouterr().out) == expected
    assert json.loads(console.json_text(value)) == expected
    assert "\n" not in console.json_text(value)


def test_numbers_for_people() -> None:
    sizes = [0, 1023, 1024, 1536, 20 << 20, 3 << 30, 5 << 40, 5000 << 40]
    shown = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "20.0 MiB", "3.0 GiB", "5.0 TiB", "5000.0 TiB"]
    assert list(map(console.human_size, sizes)) == shown
    assert console.human_count(1234567) == "1,234,567"
