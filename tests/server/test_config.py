"""The configuration: CONFIG GET and SET, and who hears of changes. Error texts are redis-server's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.engine.options import Options
from lamina.server import events
from lamina.server.config import Config, ConfigError
from lamina.server.directives import PARAMETERS, find, parse_words
from lamina.server.errors import CommandError
from lamina.server.parameters import Integer, Memory, Parameter, format_memory, parse_memory
from lamina.server.splitting import split_arguments


@pytest.fixture
def config() -> Config:
    """A configuration of a server that has started."""
    config = Config()
    config.freeze()
    return config


def error_of(config: Config, *pairs: tuple[bytes, bytes]) -> bytes:
    with pytest.raises(CommandError) as caught:
        config.set(pairs)
    return caught.value.message


def reason_of(config: Config, name: bytes, value: bytes) -> bytes:
    start = b"ERR CONFIG SET failed (possibly related to argument '%b') - " % name
    message = error_of(config, (name, value))
    assert message.startswith(start)
    return message.removeprefix(start)


def test_values_are_attributes_of_their_type(config: Config) -> None:
    assert config.port == 6379
    assert config.bind == ("127.0.0.1", "-::1")
    assert config.protected_mode is True
    assert config.requirepass == b""
    assert config.appendfsync == "everysec"
    assert config.save == ()
    assert config.dbfilename == "dump.rdb"
    assert config.client_output_buffer_limit["pubsub"] == (32 << 20, 8 << 20, 60)
    config.set({b"maxclients": b"7", b"requirepass": b"\xff", b"bind": b"* -::*", b"timeout": b"9"})
    assert config.maxclients == 7
    assert config.requirepass == b"\xff"
    assert config.bind == ("*", "-::*")
    assert config.timeout == 9


def test_names_are_found_in_any_case_and_by_pattern(config: Config) -> None:
    assert config.get(b"MaxClients") == {b"MaxClients": b"10000"}
    assert config.get(b"maxc*") == {b"maxclients": b"10000"}
    assert config.get(b"MAXCLIENT?") == {b"maxclients": b"10000"}
    assert config.get(b"nothing") == config.get(b"nothing*") == {}
    assert len(config.get(b"*")) == sum(len(parameter.names) for parameter in PARAMETERS)


def test_an_alias_is_the_same_parameter(config: Config) -> None:
    config.set({b"hash-max-ziplist-entries": b"7"})
    assert config.hash_max_listpack_entries == 7
    assert config.get(b"hash-max-*-entries") == {
        b"hash-max-listpack-entries": b"7",
        b"hash-max-ziplist-entries": b"7",
    }
    config.set([(b"lua-time-limit", b"1"), (b"busy-reply-threshold", b"2")])
    assert config.get(b"busy-reply-threshold") == {b"busy-reply-threshold": b"2"}


@pytest.mark.parametrize(
    ("name", "given", "shown"),
    [
        (b"maxmemory", b"1kB", b"1024"),
        (b"maxmemory", b"10g", b"10000000000"),
        (b"maxmemory", b"kb", b"0"),
        (b"maxmemory-clients", b"5%", b"5%"),
        (b"loglevel", b"NOTICE", b"notice"),
        (b"protected-mode", b"NO", b"no"),
        (b"save", b"", b""),
        (b"save", b"900 1 60 5", b"900 1 60 5"),
        (b"bind", b"", b""),
        (b"hz", b"9999", b"500"),
        (b"hz", b"0", b"1"),
        (b"notify-keyspace-events", b"Kg$lshzxetd", b"AK"),
        (b"notify-keyspace-events", b"AKEm", b"AKEm"),
        (b"notify-keyspace-events", b"KEg$lshzxet", b"g$lshzxetKE"),
        (b"notify-keyspace-events", b"nK", b"nK"),
        (b"notify-keyspace-events", b"KEdt$", b"$tdKE"),
        (b"latency-tracking-info-percentiles", b"99.9 50 1e1", b"99.9 50 10"),
        (b"latency-tracking-info-percentiles", b"", b""),
        (b"shutdown-on-sigterm", b"NoSave force", b"nosave force"),
        (b"shutdown-on-sigterm", b"default save", b"save"),
        (
            b"client-output-buffer-limit",
            b"replica 1kb 2 3 NORMAL 5 6 7",
            b"normal 5 6 7 slave 1024 2 3 pubsub 33554432 8388608 60",
        ),
    ],
)
def test_values_as_they_are_shown(config: Config, name: bytes, given: bytes, shown: bytes) -> None:
    config.set({name: given})
    assert config.get(name) == {name: shown}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (b"maxclients", b"x", b"argument couldn't be parsed into an integer"),
        (b"maxclients", b"0", b"argument must be between 1 and 4294967295 inclusive"),
        (b"port", b"70000", b"argument must be between 0 and 65535 inclusive"),
        (b"slowlog-max-len", b"-1", b"argument must be between 0 and 9223372036854775807 inclusive"),
        (b"maxmemory", b"1.5gb", b"argument must be a memory value"),
        (b"maxmemory", b"-1", b"argument must be a memory value"),
        (b"proto-max-bulk-len", b"1", b"argument must be between 1048576 and 9223372036854775807 inclusive"),
        (b"maxmemory-clients", b"101%", b"percentage argument must be less or equal to 100"),
        (b"maxmemory-clients", b"-5%", b"argument must be a memory or percent value"),
        (b"appendonly", b"maybe", b"argument must be 'yes' or 'no'"),
        (
            b"loglevel",
            b"foo",
            b"argument(s) must be one of the following: debug, verbose, notice, warning",
        ),
        (b"save", b"1", b"Invalid save parameters"),
        (b"save", b"0 1", b"Invalid save parameters"),
        (b"save", b"900   1", b"Invalid save parameters"),
        (
            b"client-output-buffer-limit",
            b"normal 0 0",
            b"Wrong number of arguments in buffer limit configuration.",
        ),
        (
            b"client-output-buffer-limit",
            b"master 0 0 0",
            b"Invalid client class specified in buffer limit configuration.",
        ),
        (
            b"client-output-buffer-limit",
            b"normal x 0 0",
            b"Error in hard, soft or soft_seconds setting in buffer limit configuration.",
        ),
        (b"notify-keyspace-events", b"q", b"Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
        (
            b"latency-tracking-info-percentiles",
            b"50 x",
            b"Invalid latency-tracking-info-percentiles parameters",
        ),
        (
            b"latency-tracking-info-percentiles",
            b"101",
            b"latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
        ),
        (b"databases", b"5", b"can't set immutable config"),
        (b"dir", b"/tmp", b"can't set protected config"),
        (b"aclfile", b"x", b"can't set immutable config"),
        (b"daemonize", b"yes", b"can't set immutable config"),
    ],
)
def test_values_that_are_refused(config: Config, name: bytes, value: bytes, reason: bytes) -> None:
    before = config.get(b"*")
    assert reason_of(config, name, value) == reason
    assert config.get(b"*") == before


def test_fixed_parameters_can_be_set_until_the_server_starts() -> None:
    config = Config()
    config.set({b"databases": b"5", b"memory": b"16mb"})
    assert (config.databases, config.memory) == (5, 16 << 20)


def test_all_or_nothing(config: Config) -> None:
    assert error_of(config, (b"maxclients", b"5"), (b"foo", b"1")) == (
        b"ERR Unknown option or number of arguments for CONFIG SET - 'foo'"
    )
    assert error_of(config, (b"maxclients", b"5"), (b"hz", b"x")) == (
        b"ERR CONFIG SET failed (possibly related to argument 'hz') - "
        b"argument couldn't be parsed into an integer"
    )
    assert error_of(config, (b"maxclients", b"5"), (b"MAXCLIENTS", b"6")) == (
        b"ERR CONFIG SET failed (possibly related to argument 'MAXCLIENTS') - duplicate parameter"
    )
    assert config.maxclients == 10000


def test_hooks_hear_of_changes_once(config: Config) -> None:
    heard: list[object] = []
    seen = lambda: heard.append((config.maxclients, config.timeout))  # noqa: E731 - one hook for both
    config.on_change("maxclients", seen)
    config.on_change("timeout", seen)
    config.set({b"maxclients": b"5", b"timeout": b"6"})
    assert heard == [(5, 6)]
    config.set({b"maxclients": b"5", b"hz": b"20"})
    assert heard == [(5, 6)], "nothing changed that it listens to"


def test_a_hook_hears_of_a_change_by_alias(config: Config) -> None:
    heard: list[int] = []
    config.on_change("zset-max-listpack-value", lambda: heard.append(config.zset_max_listpack_value))
    config.set({b"zset-max-ziplist-value": b"9"})
    assert heard == [9]


def test_a_hook_may_refuse_and_everything_is_undone(config: Config) -> None:
    applied: list[int] = []

    def apply_maxclients() -> None:
        applied.append(config.maxclients)

    def refuse() -> None:
        raise ConfigError("Failed to bind to specified addresses.")

    config.on_change("maxclients", apply_maxclients)
    config.on_change("bind", refuse)
    assert error_of(config, (b"maxclients", b"5"), (b"bind", b"nowhere")) == (
        b"ERR CONFIG SET failed (possibly related to argument 'bind') - "
        b"Failed to bind to specified addresses."
    )
    assert applied == [5, 10000]
    assert config.bind == ("127.0.0.1", "-::1")


def test_a_hook_that_cannot_go_back_is_logged(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    def change_port() -> None:
        if config.port == 6379:
            raise ConfigError("taken by somebody else meanwhile")

    def refuse() -> None:
        raise ConfigError("no")

    config.on_change("port", change_port)
    config.on_change("bind", refuse)
    assert error_of(config, (b"port", b"7000"), (b"bind", b"::1")).endswith(b"argument 'bind') - no")
    assert "could not be taken back: taken by somebody else meanwhile" in caplog.text


def test_setting_a_file_to_what_it_is_reads_it_again(config: Config) -> None:
    heard: list[str] = []
    config.on_change("tls-cert-file", lambda: heard.append(config.tls_cert_file))
    config.on_change("tls-ciphers", lambda: heard.append(config.tls_ciphers))
    config.set({b"tls-cert-file": b"", b"tls-ciphers": b""})
    assert heard == [""]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_every_parameter_is_described_and_takes_what_it_shows(parameter: Parameter[Any]) -> None:
    assert parameter.doc.endswith((".", "replica", "mode"))
    value = parameter.default
    text = parameter.format(value)
    words = text.split(b" ") if parameter.takes_words else [text]
    assert parameter.parse(words, value) == value
    read = None
    for at, line in enumerate(parameter.lines(value)):
        arguments = split_arguments(line)
        assert arguments is not None
        read = parse_words(parameter, arguments, value if at == 0 else read, is_continued=at > 0)
    assert read == value


ENGINE_OPTIONS = {
    "block-size": "block_size_bytes",
    "segment-size": "segment_size_bytes",
    "filter-bits": "filter_bits_per_key",
    "level-runs": "level_runs_max",
    "open-files": "open_files_max",
    "rate-limit": "rate_limit_bytes_per_s",
}


@pytest.mark.parametrize(("name", "field"), ENGINE_OPTIONS.items())
def test_the_engines_parameters_have_the_engines_defaults_and_bounds(name: str, field: str) -> None:
    parameter = find(name.encode())
    assert isinstance(parameter, Integer)
    assert parameter.default == getattr(Options(), field)
    for bound in (parameter.low, parameter.high):
        Options(**{field: bound})  # type: ignore[arg-type]
    for beyond in (parameter.low - 1, parameter.high + 1):
        with pytest.raises(ValueError):
            Options(**{field: beyond})  # type: ignore[arg-type]


def test_event_classes_are_the_events_flags(config: Config) -> None:
    config.set({b"notify-keyspace-events": b"KEA"})
    assert config.notify_keyspace_events == events.KEYSPACE | events.KEYEVENT | events.ALL


@given(st.integers(0, 1 << 70))
def test_memory_values_come_back(size_bytes: int) -> None:
    assert parse_memory(format_memory(size_bytes)) == size_bytes


def test_memory_is_written_in_the_largest_unit_that_fits() -> None:
    parameter = Memory(0, 0, 1 << 40, "For the test.")
    assert parameter.lines(1 << 30) == [b"1gb"]
    assert parameter.lines(100 << 20) == [b"100mb"]
    assert parameter.lines(1000) == [b"1000"]
    assert parameter.lines(0) == [b"0"]
