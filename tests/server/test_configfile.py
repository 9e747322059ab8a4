"""Configuration files, the command line, CONFIG REWRITE."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.server import commands
from lamina.server.acl.rules import NO_SUCH_PASSWORD
from lamina.server.config import Config, ConfigError
from lamina.server.configfile import MARKER, ConfigFileError
from lamina.server.errors import CommandError
from lamina.server.registry import COMMANDS

GROUPS = commands.GROUPS


def written(directory: Path, text: str | bytes, name: str = "lamina.conf") -> str:
    path = directory / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def loaded(directory: Path, text: str | bytes, *arguments: str) -> Config:
    config = Config()
    config.load_command_line([written(directory, text), *arguments])
    return config


def failure_of(config: Config, *arguments: str) -> ConfigFileError:
    with pytest.raises(ConfigFileError) as caught:
        config.load_command_line(list(arguments))
    return caught.value


def test_a_file_is_read(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
        # a comment
        port 7000
        PORT 7001
          bind 127.0.0.1   -::1
        requirepass "a b\\x01'"
        unixsocketperm 700
        save 900 1
        save 300 10
        maxmemory 100mb
        hash-max-ziplist-entries 99
        client-output-buffer-limit normal 1mb 0 0
        client-output-buffer-limit replica 1 2 3
        rename-command DEBUG ""
        rename-command get hidden
        user default on nopass sanitize-payload ~* &* +@all
        """,
    )
    assert config.port == 7001
    assert config.bind == ("127.0.0.1", "-::1")
    assert config.requirepass == b"a b\x01'"
    assert config.unixsocketperm == 0o700
    assert config.save == ((900, 1), (300, 10))
    assert config.maxmemory == 100 << 20
    assert config.hash_max_listpack_entries == 99
    assert config.client_output_buffer_limit == {
        "normal": (1 << 20, 0, 0),
        "slave": (1, 2, 3),
        "pubsub": (32 << 20, 8 << 20, 60),
    }
    assert config.renamed_commands == [(b"DEBUG", b""), (b"get", b"hidden")]
    assert config.path == str(tmp_path / "lamina.conf")


def test_an_empty_list_of_save_points_forgets_those_above(tmp_path: Path) -> None:
    assert loaded(tmp_path, 'save 900 1\nsave ""\n').save == ()
    assert loaded(tmp_path, 'save 900 1\nsave ""\nsave 60 5\n').save == ((60, 5),)


def test_options_override_the_file(tmp_path: Path) -> None:
    config = loaded(tmp_path, "port 1\nsave 900 1\n", "--port", "2", "--save", "60", "5", "--TIMEOUT 3")
    assert (config.port, config.save, config.timeout) == (2, ((60, 5),), 3)
    config.load_arguments(["--save", "--requirepass", "two words", "--dir", str(tmp_path)])
    assert (config.save, config.requirepass, config.dir) == ((), b"two words", str(tmp_path))


def test_options_without_a_file() -> None:
    config = Config()
    config.load_command_line(["--port", "0"])
    assert config.port == 0
    assert config.path is None
    config.load_command_line([])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("foo bar", "Bad directive or wrong number of arguments"),
        ("port x", "argument couldn't be parsed into an integer"),
        ("maxclients", "wrong number of arguments"),
        ("maxclients 1 2", "wrong number of arguments"),
        ("port 1 # c", "wrong number of arguments"),
        ('port "1', "Unbalanced quotes in configuration line"),
        ("unixsocketperm 999", "argument couldn't be parsed as an octal number"),
        ("save 1", "Invalid save parameters"),
        ("dir /no/such/directory", "No such file or directory"),
        ("rename-command get", "Bad directive or wrong number of arguments"),
        ("user", "Bad directive or wrong number of arguments"),
        ("include", "Bad directive or wrong number of arguments"),
        ("include /no/such/file", "can't open config file '/no/such/file': No such file or directory"),
        ("loadmodule /x.so", "Lamina loads no modules"),
        ("user alice on >p <q", f"Error in user declaration '<q': {NO_SUCH_PASSWORD}"),
        (
            "user alice +nosuch",
            "Error in user declaration '+nosuch': Unknown command or category name in ACL",
        ),
        ("user alice (~a", "Error in user declaration '(~a': Unmatched parenthesis in ACL selector"),
        ('user "a b" on', "Spaces not allowed in ACL usernames"),
        ("replicaof host 6379", "Lamina does not replicate: it cannot be a replica"),
        ("cluster-enabled yes", "Lamina has no cluster mode"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = written(tmp_path, f"# one\n\n{line}\nport 1\n")
    error = failure_of(Config(), path)
    assert (error.source, error.line_number, error.line, error.reason) == (path, 3, line, reason)
    assert str(error) == (
        f"*** FATAL CONFIG FILE ERROR ***\nReading the configuration file {path}, at line 3\n"
        f">>> '{line}'\n{reason}"
    )
    assert isinstance(error, ConfigError)


def test_renaming_is_checked_line_by_line(tmp_path: Path) -> None:
    text = 'rename-command get fetch\nrename-command FETCH get\nrename-command Debug ""\n'
    before = dict(COMMANDS)
    config = Config(COMMANDS)
    config.load_file(written(tmp_path, text + "rename-command SET Get2\nrename-command get2 set\n"))
    assert len(config.renamed_commands) == 5
    for line, reason in [
        ("rename-command debug x", "No such command in rename-command"),
        ("rename-command config|get x", "No such command in rename-command"),
        ("rename-command get SET", "Target command name already exists"),
    ]:
        error = failure_of(Config(COMMANDS), written(tmp_path, f"{text}{line}\n"))
        assert (error.line_number, error.line, error.reason) == (4, line, reason)
    assert before == COMMANDS, "the table itself is for the server to change"


def test_a_bad_option_is_named() -> None:
    assert str(failure_of(Config(), "--foo", "a b")) == (
        "*** FATAL CONFIG FILE ERROR ***\nReading the command line\n>>> 'foo \"a b\"'\n"
        "Bad directive or wrong number of arguments"
    )
    assert failure_of(Config(), "--port").reason == "wrong number of arguments"
    assert failure_of(Config(), "--").line == "--"
    with pytest.raises(ConfigFileError):
        Config().load_arguments(["port", "1"])
    with pytest.raises(FileNotFoundError):
        Config().load_command_line(["/no/such/file"])


def test_harmless_values_of_what_cannot_be_had_are_taken(tmp_path: Path) -> None:
    config = loaded(tmp_path, "daemonize no\ncluster-enabled no\nrepl-timeout 60\nappendonly yes\n")
    assert config.warnings == []


def test_what_has_no_effect_is_warned_of_once(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        "repl-timeout 5\nslave-priority 7\nrepl-timeout 6\nmaxclients 5\nappendonly no\ndaemonize yes\n",
        "--daemonize",
        "yes",
        "--repl-backlog-ttl",
        "7",
    )
    assert config.warnings == [
        "repl-timeout has no effect in Lamina",
        "replica-priority has no effect in Lamina",
        "appendonly has no effect in Lamina: every write is logged",
        "daemonize has no effect in Lamina: the server stays in the foreground",
        "repl-backlog-ttl has no effect in Lamina",
    ]
    assert config.get(b"repl-timeout") == {b"repl-timeout": b"6"}


def test_includes_are_read_in_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf.d").mkdir()
    written(tmp_path, "timeout 1\nport 1\n", "conf.d/a.conf")
    written(tmp_path, "timeout 2\nsave 5 5\n", "conf.d/b.conf")
    config = loaded(tmp_path, "timeout 9\nsave 1 1\ninclude conf.d/*.conf\ninclude none/*\nport 3\n")
    assert (config.timeout, config.port, config.save) == (2, 3, ((1, 1), (5, 5)))
    path = written(tmp_path, "hz x\n", "bad.conf")
    error = failure_of(Config(), written(tmp_path, "include bad.conf\n"))
    assert (error.source, error.line_number) == (path, 1)


def test_relative_paths_start_from_dir_as_it_is_at_the_line(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    written(tmp_path / "a", "timeout 1\ndir b\ninclude more.conf\n", "more.conf")
    written(tmp_path / "a" / "b", "port 1\n", "more.conf")
    config = loaded(tmp_path, f"dir {tmp_path}\ndir a\ninclude more.conf\n")
    assert (config.timeout, config.port, config.dir) == (1, 1, str(tmp_path / "a" / "b"))
    config = Config()
    config.load_command_line(["--dir", str(tmp_path / "a"), "--include", "more.conf", "--port", "2"])
    assert (config.timeout, config.port) == (1, 2)
    written(tmp_path, "hz x\n", "bad.conf")
    assert failure_of(Config(), "--include", str(tmp_path / "bad.conf")).line_number == 1


def test_a_file_that_includes_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lamina.conf"
    assert (
        failure_of(Config(), written(tmp_path, f"include {path}\n")).reason == "includes are nested too deep"
    )


# --- CONFIG REWRITE


def test_rewriting_keeps_what_can_be_kept(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """# a comment
port 7412

save 900 1
save 300 10
# maxclients 100
MAXCLIENTS 100
maxclients 200
  hz 10
hash-max-ziplist-entries 99
lua-time-limit 7
requirepass "a b\\x01"
rename-command DEBUG ""
maxmemory 104857600
user default on nopass ~* &* +@all
include other/*.conf
""",
        "--tcp-keepalive",
        "60",
    )
    config.set({
        b"save": b"60 5", b"maxclients": b"300", b"hz": b"20", b"maxmemory": b"1gb",
        b"busy-reply-threshold": b"8",
        b"slowlog-max-len": b"300", b"client-output-buffer-limit": b"pubsub 1mb 2 3",
    })  # fmt: skip
    config.rewrite()
    assert (
        (tmp_path / "lamina.conf").read_text()
        == """# a comment
port 7412

save 60 5
# maxclients 100
maxclients 300
hz 20
hash-max-ziplist-entries 99
busy-reply-threshold 8
requirepass "a b\\x01"
rename-command DEBUG ""
maxmemory 1gb
user default on nopass ~* &* +@all
include other/*.conf

# Generated by CONFIG REWRITE
tcp-keepalive 60
client-output-buffer-limit normal 0 0 0
client-output-buffer-limit slave 256mb 64mb 60
client-output-buffer-limit pubsub 1mb 2 3
slowlog-max-len 300
"""
    )


def test_rewriting_again_changes_nothing_and_marks_once(tmp_path: Path) -> None:
    config = loaded(tmp_path, "port 1\n", "--timeout", "5")
    config.rewrite()
    first = (tmp_path / "lamina.conf").read_bytes()
    config.rewrite()
    assert (tmp_path / "lamina.conf").read_bytes() == first
    config.set({b"hz": b"20", b"timeout": b"0"})
    config.rewrite()
    text = (tmp_path / "lamina.conf").read_bytes()
    assert text.count(MARKER) == 1
    assert text.endswith(b"timeout 0\nhz 20\n")


def test_users_are_rewritten_if_they_are_given(tmp_path: Path) -> None:
    config = loaded(tmp_path, "port 1\n")
    written(tmp_path, "user default on\nuser alice off\nport 1\n")
    config.rewrite([b"default off", b"bob on", b"eve on"])
    assert (tmp_path / "lamina.conf").read_text() == (
        "user default off\nuser bob on\nport 1\n\n# Generated by CONFIG REWRITE\nuser eve on\n"
    )
    config.rewrite([])
    assert b"user" not in (tmp_path / "lamina.conf").read_bytes()


def test_rewriting_swaps_the_file_and_keeps_its_permissions(tmp_path: Path) -> None:
    config = loaded(tmp_path, "port 1\n")
    path = tmp_path / "lamina.conf"
    path.chmod(0o640)
    before = path.stat()
    config.set({b"port": b"2"})
    config.rewrite()
    assert path.stat().st_ino != before.st_ino
    assert path.stat().st_mode == before.st_mode
    assert os.listdir(tmp_path) == ["lamina.conf"]


def test_a_file_that_has_been_removed_is_written_anew(tmp_path: Path) -> None:
    config = loaded(tmp_path, "port 1\n")
    (tmp_path / "lamina.conf").unlink()
    config.rewrite()
    assert (tmp_path / "lamina.conf").read_text() == "\n# Generated by CONFIG REWRITE\nport 1\n"


def test_rewriting_without_a_file_is_an_error() -> None:
    with pytest.raises(CommandError, match="ERR The server is running without a config file"):
        Config().rewrite()


def test_a_rewrite_that_fails_says_why_and_leaves_the_file_alone(tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    config = loaded(directory, "port 1\n")
    config.path = str(directory)
    with pytest.raises(CommandError, match="ERR Rewriting config file: Is a directory"):
        config.rewrite()


PASSWORDS = st.binary(max_size=20)
LINES = st.lists(
    st.sampled_from(
        [
            "port 1",
            "# x",
            "",
            "save 1 1",
            'save ""',
            "include none*",
            "maxclients 5",
            "hz 7",
            "slave-priority 3",
        ]
    ),
    max_size=12,
)


@given(LINES, PASSWORDS, st.lists(st.tuples(st.integers(1, 99), st.integers(0, 99)), max_size=3))
def test_what_was_rewritten_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], password: bytes, points: list[tuple[int, int]]
) -> None:
    config = loaded(tmp_path_factory.mktemp("conf"), "\n".join(lines))
    save = b" ".join([b"%d %d" % point for point in points])
    config.set({b"requirepass": password, b"save": save, b"maxclients": b"6"})
    config.rewrite()
    assert config.path is not None
    again = Config()
    again.load_file(config.path)
    assert again.get(b"*") == config.get(b"*")
