"""What programs do with Node's two clients, ioredis and redis, and BullMQ on the first of them.

The packages are installed from node/package-lock.json into a folder outside of the sources:
$LAMINA_NODE_MODULES, or one that is kept among the temporary files and made anew when the lock file changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness import servers
from harness.programs import Dialogue, check_directory
from harness.servers import Server

SOURCES = Path(__file__).parent / "node"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None, reason="needs node and npm"
)


def cache_directory() -> Path:
    """Return where the packages are, or shall be, installed."""
    given = os.environ.get("LAMINA_NODE_MODULES")
    if given:
        return Path(given)
    lock = (SOURCES / "package-lock.json").read_bytes()
    name = f"lamina-node-{os.getuid()}-{hashlib.sha256(lock).hexdigest()[:12]}"
    return Path(tempfile.gettempdir()) / name


@pytest.fixture(scope="session")
def node_directory() -> Path:
    """Install the packages unless they are, and put the current scripts beside them."""
    directory = cache_directory()
    if not (directory / "node_modules").is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Beside and renamed: test processes may do this at the same time, and one may be interrupted.
        beside = Path(tempfile.mkdtemp(prefix=f"{directory.name}.", dir=directory.parent))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCES / name, beside)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=beside,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        try:
            beside.rename(directory)
        except OSError:  # another process was first
            shutil.rmtree(beside)
    for script in SOURCES.glob("*.mjs"):
        replaced = Path(tempfile.mkstemp(dir=directory, suffix=".new")[1])
        shutil.copy(script, replaced)
        replaced.replace(directory / script.name)
    return directory


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("script", ["ioredis.mjs", "redis.mjs"])
def test_client(node_directory: Path, server: Server, script: str, protocol: str) -> None:
    done = subprocess.run(
        ["node", str(node_directory / script), str(server.port), protocol],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "ok\n"


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("script", ["ioredis-killed.mjs", "redis-killed.mjs"])
def test_client_whose_server_is_killed(
    node_directory: Path, tmp_path: Path, script: str, protocol: str
) -> None:
    talk(node_directory, tmp_path, script, protocol)


def talk(node_directory: Path, directory: Path, script: str, *arguments: str) -> None:
    """Run a script with a server of its own, which it has killed and started; its data is checked then."""
    with servers.tested_server(directory) as server:
        command = ["node", str(node_directory / script), str(server.port), *arguments]
        with Dialogue(script, command, directory) as dialogue:
            dialogue.follow({"kill": server.kill, "start": server.start})
        check_directory(server)


def test_bullmq(node_directory: Path, tmp_path: Path) -> None:
    """Queues that live on Lua scripts and streams; the server is killed while jobs run."""
    talk(node_directory, tmp_path, "bullmq.mjs")


def test_the_lock_file_names_no_registry() -> None:
    """A download address would be one machine's; npm finds the packages by name, version and checksum."""
    lock = (SOURCES / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert '"resolved"' not in lock
