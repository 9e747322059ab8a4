"""How a server starts, where it listens, what it says to those who started it: real processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.resp import ErrorReply, RespClient
from harness.servers import Server, StartServer, free_port, start_lamina
from lamina.server.version import VERSION

__all__ = ["start_lamina"]

DEBIAN_FILE = Path("/etc/redis/redis.conf")
PROGRAM = (sys.executable, "-m", "lamina.tools", "serve")

PORT_FAILED = "Unable to listen on this port. Check server logs."
BIND_FAILED = "Failed to bind to specified addresses."
TLS_FAILED = "Unable to update TLS configuration. Check server logs."


def refused(name: str, reason: str) -> ErrorReply:
    return ErrorReply(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")


def is_open(port: int, host: str = "127.0.0.1") -> bool:
    try:
        with RespClient(port, host=host) as client:
            return bool(client.call("PING") == "PONG")
    except ConnectionRefusedError:
        return False


def wait_until(is_so: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def failure_to_start(*arguments: str, directory: Path | None = None) -> str:
    """Return what a server says that does not start; its status must be 2."""
    done = subprocess.run([*PROGRAM, *arguments], cwd=directory, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done
    return done.stderr + done.stdout


# Where it listens


def test_without_configuration_it_listens_on_this_machine_only(tmp_path: Path) -> None:
    port = free_port()
    with subprocess.Popen([*PROGRAM, "--port", str(port)], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        try:
            wait_until(lambda: is_open(port))
            with RespClient(port) as client:
                assert client.ok("CONFIG", "GET", "bind")[1] == b"127.0.0.1 -::1"
            assert not is_open(port, "127.0.0.2")
        finally:
            process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 0
    assert os.listdir(tmp_path) == ["lamina"]


def test_another_port_at_run_time(start_lamina: StartServer, taken_port: int) -> None:
    server = start_lamina()
    before, port = server.port, free_port()
    with server.client() as client:
        assert client.call("CONFIG", "SET", "port", taken_port) == refused("port", PORT_FAILED)
        assert client.ok("CONFIG", "GET", "port")[1] == str(before).encode()
        assert is_open(before)
        assert f"cannot listen on 127.0.0.1:{taken_port}: Address already in use" in server.log()
        client.ok("CONFIG", "SET", "port", port)
        assert is_open(port)
        assert not is_open(before)
        assert client.call("PING") == "PONG", "who is connected stays"
        client.ok("CONFIG", "SET", "port", 0)
        assert not is_open(port)
        client.ok("CONFIG", "SET", "port", before)
        assert is_open(before)


def test_other_addresses_at_run_time(start_lamina: StartServer, taken_port: int) -> None:
    server = start_lamina()
    port = server.port

    def open_addresses() -> list[str]:
        return [host for host in ("127.0.0.1", "127.0.0.2") if is_open(port, host)]

    with server.client() as client:
        assert client.call("CONFIG", "SET", "bind", "127.0.0.1 192.0.2.1") == refused("bind", BIND_FAILED)
        assert open_addresses() == ["127.0.0.1"]
        client.ok("CONFIG", "SET", "bind", "-192.0.2.1 127.0.0.1 127.0.0.2")
        assert open_addresses() == ["127.0.0.1", "127.0.0.2"]
        # All addresses and one of them exclude each other: what was there has to go first, and comes back.
        client.ok("CONFIG", "SET", "bind", "*")
        assert open_addresses() == ["127.0.0.1", "127.0.0.2"]
        assert client.call("CONFIG", "SET", "bind", "127.0.0.2 192.0.2.1") == refused("bind", BIND_FAILED)
        assert open_addresses() == ["127.0.0.1", "127.0.0.2"]
        client.ok("CONFIG", "SET", "bind", "127.0.0.2")
        assert open_addresses() == ["127.0.0.2"]
        failing = ("port", str(taken_port), "bind", "127.0.0.1")
        assert client.call("CONFIG", "SET", *failing) == refused("port", PORT_FAILED)
        failing = ("maxclients", "77", "bind", "127.0.0.1", "port", str(taken_port))
        assert client.call("CONFIG", "SET", *failing) == refused("bind", BIND_FAILED)
        assert client.ok("CONFIG", "GET", "maxclients")[1] == b"10000"
        assert open_addresses() == ["127.0.0.2"]
        client.ok("CONFIG", "SET", "bind", "")
        assert open_addresses() == []
        client.ok("CONFIG", "SET", "bind", "127.0.0.1")
        assert open_addresses() == ["127.0.0.1"]


def test_two_changes_in_one_pipeline(start_lamina: StartServer) -> None:
    """The first one's socket has not been given to the loop yet when the second closes it."""
    server = start_lamina()
    first, second = free_port(), free_port()
    with server.client() as client:
        ports = [("CONFIG", "SET", "port", port) for port in (first, second, server.port, second)]
        assert client.pipeline(ports) == ["OK"] * 4
    assert is_open(second)
    assert not is_open(first)
    assert not is_open(server.port)


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two certificates that have signed themselves, and their keys."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make certificates")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("one", "two"):
        made = ("-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2", "-subj", f"/CN={name}")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
    return folder


def shown_certificate(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=10).strip()


def text_of(path: Path) -> str:
    return path.read_text().strip()


def test_tls_comes_changes_and_goes_at_run_time(
    start_lamina: StartServer, certificates: Path, taken_port: int
) -> None:
    server = start_lamina()
    port = free_port()
    one, two = certificates / "one.crt", certificates / "two.crt"
    own = server.data / "own.crt"
    shutil.copy(one, own)
    shutil.copy(certificates / "one.key", server.data / "own.key")
    with server.client() as client:
        assert client.call("CONFIG", "SET", "tls-port", port) == refused("tls-port", TLS_FAILED)
        pair = ("tls-cert-file", "own.crt", "tls-key-file", "own.key")  # relative to `dir`
        client.ok("CONFIG", "SET", *pair)
        needs_authority = client.call("CONFIG", "SET", "tls-port", port)
        assert needs_authority == refused("tls-port", TLS_FAILED)
        client.ok("CONFIG", "SET", "tls-port", port, "tls-auth-clients", "no")
        assert shown_certificate(port) == text_of(one)
        # Renewed under the same name.
        shutil.copy(two, own)
        assert client.call("CONFIG", "SET", "tls-cert-file", "own.crt") == refused(
            "tls-cert-file", TLS_FAILED
        ), "it does not belong to the key"
        assert shown_certificate(port) == text_of(one)
        shutil.copy(certificates / "two.key", server.data / "own.key")
        client.ok("CONFIG", "SET", "tls-cert-file", "own.crt")
        assert shown_certificate(port) == text_of(two)
        assert client.call("CONFIG", "SET", "tls-port", taken_port) == refused("tls-port", PORT_FAILED)
        assert client.call("CONFIG", "SET", "tls-protocols", "SSLv3") == refused("tls-protocols", TLS_FAILED)
        # One port, plain before, is TLS's now: INFO tells the port that there is.
        client.ok("CONFIG", "SET", "port", 0, "tls-port", server.port)
        assert shown_certificate(server.port) == text_of(two)
        assert not is_open(port)
        assert f"tcp_port:{server.port}\r\n" in client.ok("INFO", "server").decode()
        client.ok("CONFIG", "SET", "tls-port", 0, "port", server.port)
        assert is_open(server.port)


# Paths, logs, supervisors


def test_relative_paths_start_from_dir(start_lamina: StartServer, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    configuration = tmp_path / "conf" / "lamina.conf"
    configuration.write_text("pidfile own.pid\nunixsocket own.sock\nlogfile own.log\nhz 20\n")
    data = tmp_path / "elsewhere"
    data.mkdir()
    port = free_port()
    command = [*PROGRAM, "conf/lamina.conf", "--dir", "elsewhere", "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        try:
            wait_until((data / "own.pid").exists)
            assert (data / "own.pid").read_text() == f"{process.pid}\n"
            with RespClient(unix_socket=str(data / "own.sock")) as client:
                client.ok("SET", "a", 1)
                assert client.ok("CONFIG", "GET", "dir")[1] == str(data).encode()
                client.ok("CONFIG", "REWRITE")
                assert "hz 20" in configuration.read_text()
                # logrotate moves the file away.
                (data / "own.log").rename(data / "old.log")
                client.ok("CONFIG", "SET", "loglevel", "warning")
                client.call("CONFIG", "SET", "bind", "192.0.2.1")
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    assert sorted(os.listdir(data)) == ["lamina", "old.log", "own.log"]
    assert "* Ready to accept connections" in (data / "old.log").read_text()
    later = (data / "own.log").read_text()
    assert "# cannot listen on 192.0.2.1" in later
    assert " * " not in later, "loglevel warning holds"


def test_a_pidfile_that_cannot_be_written_keeps_nobody_from_serving(start_lamina: StartServer) -> None:
    server = start_lamina("--pidfile", "/no/such/directory/x.pid")
    assert "# Failed to write PID file: /no/such/directory/x.pid: No such file" in server.log()
    assert server.stop() == 0


@pytest.mark.parametrize("kind", ["path", "abstract"])
@pytest.mark.parametrize("supervised", ["systemd", "auto"])
def test_systemd_is_told(
    start_lamina: StartServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    supervised: str,
    kind: str,
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        name = str(tmp_path / "notify")
        if kind == "abstract":
            name = f"@lamina-test-{os.getpid()}-{supervised}"
        systemd.bind(name.replace("@", "\0"))
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        server = start_lamina("--supervised", supervised)
        assert b"READY=1" in systemd.recv(1000).splitlines()
        assert is_open(server.port)
        with server.client() as client:
            assert b"process_supervised:systemd\r\n" in client.ok("INFO", "server")
        assert server.stop() == 0
        assert systemd.recv(1000) == b"STOPPING=1\n"


def test_nobody_is_told_who_did_not_ask(
    start_lamina: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for supervised in ("systemd", "upstart"):
        server = start_lamina("--supervised", supervised)
        assert server.stop() == 0
        assert f"# {supervised} supervision requested, but " in server.log()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        server = start_lamina()
        with server.client() as client:
            assert b"process_supervised:no\r\n" in client.ok("INFO", "server")
        assert server.stop() == 0
        with pytest.raises(BlockingIOError):
            systemd.recv(1000)


def test_upstart_is_told_by_stopping(start_lamina: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTART_JOB", "lamina")
    server = start_lamina("--supervised", "upstart")
    status = Path(f"/proc/{server.pid}/stat")
    wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T")
    os.kill(server.pid, signal.SIGCONT)
    assert is_open(server.port)
    assert server.stop() == 0


# Configurations


def test_debians_file_for_redis_is_taken_as_it_is(start_lamina: StartServer, tmp_path: Path) -> None:
    if not os.access(DEBIAN_FILE, os.R_OK) or not Path("/var/lib/redis").is_dir():
        pytest.skip(f"needs {DEBIAN_FILE} of Debian's redis-server")
    server = start_lamina(DEBIAN_FILE, "--logfile", "", "--pidfile", "own.pid")
    assert server.log().count("daemonize has no effect in Lamina: the server stays in the foreground") == 1
    assert (server.data / "own.pid").read_text() == f"{server.pid}\n"
    with server.client() as client:
        assert client.ok("CONFIG", "GET", "daemonize")[1] == b"yes"
    assert server.stop() == 0


def test_renamed_commands(start_lamina: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "renamed.conf"
    path.write_text(
        'rename-command CONFIG "hidden config"\nrename-command FLUSHALL ""\nrename-command AUTH login\n'
    )
    server = start_lamina(path, "--requirepass", "secret", "--slowlog-log-slower-than", "0")
    with server.client() as client:
        unknown = "ERR unknown command '{}', with args beginning with: {}"
        assert client.call("AUTH", "secret") == ErrorReply(unknown.format("AUTH", "'secret' "))
        assert client.call("LOGIN", "secret") == "OK"
        assert client.call("FLUSHALL") == ErrorReply(unknown.format("FLUSHALL", ""))
        assert client.ok("hidden CONFIG", "GET", "hz") == [b"hz", b"10"]
        assert [b"LOGIN", b"(redacted)"] in [entry[3] for entry in client.ok("SLOWLOG", "GET", -1)]
        client.ok("hidden config", "REWRITE")
    assert 'rename-command FLUSHALL ""\n' in path.read_text()


FATAL = "*** FATAL CONFIG FILE ERROR ***\nReading the configuration file {path}, at line 1\n>>> '{line}'\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("user alice on ~* foo", "Error in user declaration 'foo': Syntax error"),
        ("rename-command GET set", "Target command name already exists"),
        ("rename-command nosuch x", "No such command in rename-command"),
        ("port x", "argument couldn't be parsed into an integer"),
        ("what is this", "Bad directive or wrong number of arguments"),
    ],
)
def test_a_bad_line_ends_the_start(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "bad.conf"
    path.write_text(f"{line}\n")
    said = failure_to_start(str(path))
    assert said == f"\n{FATAL.format(path=path, line=line)}{reason}\n"


def test_files_that_are_not_there(tmp_path: Path) -> None:
    said = failure_to_start("nosuch.conf", directory=tmp_path)
    assert (
        said == f"Fatal error, can't open config file '{tmp_path}/nosuch.conf': No such file or directory\n"
    )
    said = failure_to_start(str(tmp_path))
    assert said == f"Fatal error, can't open config file '{tmp_path}': Is a directory\n"
    said = failure_to_start("--dir", str(tmp_path), "--logfile", "no/log")
    assert said == "Fatal error, can't open the log file 'no/log': No such file or directory\n"
    assert "dir /no/such" in failure_to_start("--dir", "/no/such")


def test_what_keeps_a_server_from_serving(
    start_lamina: StartServer, tmp_path: Path, taken_port: int, certificates: Path
) -> None:
    where = ("--dir", str(tmp_path))
    said = failure_to_start(*where, "--port", str(taken_port))
    assert f"cannot listen on 127.0.0.1:{taken_port}: Address already in use" in said
    assert "nothing to listen on" in failure_to_start(*where, "--port", "0")
    tls = (*where, "--port", "0", "--tls-port", str(free_port()))
    assert "tls-port needs a tls-cert-file" in failure_to_start(*tls)
    files = (
        "--tls-cert-file",
        str(certificates / "one.crt"),
        "--tls-key-file",
        str(certificates / "one.key"),
    )
    assert "tls-auth-clients yes needs a tls-ca-cert-file" in failure_to_start(*tls, *files)
    said = failure_to_start(*where, "--port", "0", "--unixsocket", "no/socket")
    assert "cannot listen on the Unix socket no/socket: No such file" in said
    server = start_lamina()
    said = failure_to_start("--dir", str(server.data), "--port", str(free_port()))
    assert f"another process has the database {server.data}/lamina open" in said
    assert f"process {server.pid}" in said


def test_a_server_that_cannot_start_leaves_anothers_socket_alone(
    start_lamina: StartServer, tmp_path: Path, taken_port: int
) -> None:
    path = tmp_path / "own.sock"
    server: Server = start_lamina("--unixsocket", str(path))
    failure_to_start("--dir", str(tmp_path), "--port", str(taken_port), "--unixsocket", str(path))
    with RespClient(unix_socket=str(path)) as client:
        assert client.call("PING") == "PONG"
    assert server.stop() == 0
    assert not path.exists()


# The command line


def test_help_and_versions() -> None:
    def said(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "lamina.tools", *arguments], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert said("--version") == f"lamina {VERSION}\n"
    assert said("serve", "--version") == said("serve", "-v")
    assert said("serve", "-v").startswith(f"Lamina server v={VERSION} redis=7.2")
    assert "serve      serve a database over Redis's protocol" in said("--help")
    assert said("serve", "--help") == said("serve", "-h")
    assert "--appendfsync everysec" in said("serve", "-h")


@pytest.mark.parametrize("flag", ["--sentinel", "--test-memory", "--check-system"])
def test_what_redis_server_does_besides_is_refused(flag: str) -> None:
    assert failure_to_start(flag).startswith(f"lamina serve: no {flag}: ")
