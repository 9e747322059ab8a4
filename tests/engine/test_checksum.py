"""Both libraries give the same CRC-32C, and files move between machines that have one or the other."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import crcmod.predefined
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lamina.engine as engine
from lamina.engine import checksum
from lamina.engine.checksum import crc32c

_crcmod = crcmod.predefined.mkPredefinedCrcFun("crc-32c")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # RFC 3720, appendix B.4.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_known_values(data: bytes, expected: int) -> None:
    assert crc32c(0, data) == expected
    assert _crcmod(data, 0) == expected


@given(st.integers(0, 2**32 - 1), st.binary(max_size=300))
def test_both_libraries_agree_from_any_seed(seed: int, data: bytes) -> None:
    assert crc32c(seed, data) == _crcmod(data, seed)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_checksum_is_continued_by_its_seed(first: bytes, second: bytes) -> None:
    assert crc32c(crc32c(0, first), second) == crc32c(0, first + second)


BLOCKED = """
    import sys
    sys.modules["google_crc32c"] = None     # an import of it raises ImportError
    import lamina.engine as engine
    from lamina.engine import checksum
    assert checksum.IMPLEMENTATION == "crcmod", checksum.IMPLEMENTATION
    with engine.open(sys.argv[1], background="inline", memtable_size_bytes=4096) as db:
        {body}
"""


def run_blocked(path: Path, body: str) -> str:
    script = textwrap.dedent(BLOCKED).format(body=body)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(checksum.IMPLEMENTATION == "crcmod", reason="there is only one of the two here")
def test_a_database_moves_between_the_two(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with engine.open(path, background="inline", memtable_size_bytes=4096) as db:
        for number in range(100):
            db.put(b"key %d" % number, b"v" * number)
        assert db.stats().flushes > 0
    read = "assert [len(v) for k, v in sorted(db.scan(), key=lambda e: int(e[0][4:]))] == list(range(100))"
    write = "[db.put(b'new %d' % n, b'w' * n) for n in range(100)]; print(db.count())"
    assert run_blocked(path, f"{read}; {write}") == "200"
    with engine.open(path, background="inline") as db:
        assert db.count() == 200
        assert all(db[b"new %d" % number] == b"w" * number for number in range(100))
        db.verify()
