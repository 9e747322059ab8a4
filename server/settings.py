"""The configuration parameters that do something, one line each: default, bounds, what it is for.

Names, bounds and defaults are Redis 7.2's where Redis has the parameter. `config.py` adds what is common to
all: looking up, changing, showing. Redis's parameters that mean nothing here are in `inert.py`.

To add a parameter, add a line; docs and CONFIG know it then.
"""

from __future__ import annotations

import os

from lamina.engine.options import KIB, MIB
from lamina.server import events
from lamina.server.compounds import EventClasses, OutputLimits, Percentiles, Save
from lamina.server.numbers import INTEGER_MAX
from lamina.server.parameters import (
    INT_MAX,
    MEMORY_MAX,
    ClampedInteger,
    ContentOf,
    Data,
    Directory,
    Enum,
    FileName,
    Integer,
    Memory,
    Octal,
    Text,
    Words,
    YesNo,
)

_EVENT_LETTERS = {
    "g": events.GENERIC,
    "$": events.STRING,
    "l": events.LIST,
    "s": events.SET,
    "h": events.HASH,
    "z": events.ZSET,
    "x": events.EXPIRED,
    "e": events.EVICTED,
    "t": events.STREAM,
    "d": events.MODULE,
    "n": events.NEW,
    "K": events.KEYSPACE,
    "E": events.KEYEVENT,
    "m": events.KEY_MISS,
}
_EVICTION_POLICIES = (
    "volatile-lru volatile-lfu volatile-random volatile-ttl allkeys-lru allkeys-lfu allkeys-random noeviction"
)
_OUTPUT_LIMITS = {
    "normal": (0, 0, 0),
    "slave": (256 * MIB, 64 * MIB, 60),
    "pubsub": (32 * MIB, 8 * MIB, 60),
}


class Settings:
    """Every parameter, as the type of its value: `settings.port` is an int."""

    # --- Where it listens

    # Redis's default is every address of the machine, which it only comes to without a configuration file.
    bind = Words(
        ("127.0.0.1", "-::1"),
        "Addresses to listen on; one with a minus may be missing; * is all of IPv4, ::* all of IPv6.",
    )
    port = Integer(6379, 0, 65535, "TCP port; 0: none.")
    unixsocket = Text("", "Path of a Unix socket to listen on; empty: none.", access="fixed")
    unixsocketperm = Octal(
        0, 0, 0o777, "Permissions of the Unix socket; 0: as the umask has it.", access="fixed"
    )
    tcp_backlog = Integer(
        511, 0, INT_MAX, "Connections the system accepts ahead of the server.", access="fixed"
    )
    tcp_keepalive = Integer(300, 0, INT_MAX, "Seconds of silence before TCP probes a client; 0: never.")
    timeout = Integer(0, 0, INT_MAX, "Seconds after which an idle client is disconnected; 0: never.")
    maxclients = Integer(10000, 1, (1 << 32) - 1, "Connections at once; further ones are refused.")
    protected_mode = YesNo(True, "Without a password, let in local clients only.")

    # --- TLS

    tls_port = Integer(0, 0, 65535, "TCP port for TLS; 0: none.")
    tls_cert_file = ContentOf("", "Certificate chain, PEM.")
    tls_key_file = ContentOf("", "Private key, PEM; empty: in the certificate's file.")
    tls_key_file_pass = Text("", "Passphrase of the private key.")
    tls_ca_cert_file = ContentOf(
        "", "Certificates of the authorities that clients' certificates must come from, PEM."
    )
    tls_ca_cert_dir = ContentOf("", "A directory of such certificates, by their hashes.")
    tls_auth_clients = Enum("yes", "no yes optional", "Whether clients must show a certificate.")
    tls_protocols = Text("", "TLSv1.2, TLSv1.3 or both, in one argument; empty: both.")
    tls_ciphers = Text("", "Ciphers for TLSv1.2, as OpenSSL lists them; empty: its own choice.")
    tls_prefer_server_ciphers = YesNo(False, "Choose the cipher by the server's order.")
    tls_session_caching = YesNo(True, "Let clients resume sessions.")

    # --- Who may come in

    requirepass = Data(b"", "Password of the default user; empty: none is asked for.")
    aclfile = Text(
        "", "File of users, one on each line; empty: `user` lines of this file declare them.", access="fixed"
    )
    acl_pubsub_default = Enum(
        "resetchannels", "allchannels resetchannels", "Whether new users may use all channels, or none."
    )
    acllog_max_len = Integer(128, 0, INTEGER_MAX, "Entries that ACL LOG keeps.")
    enable_debug_command = Enum("no", "no yes local", "Who may use DEBUG.", access="fixed")
    enable_checkpoint_command = Enum(
        "local", "no yes local", "Who may use CHECKPOINT. Lamina's own.", access="fixed"
    )

    # --- The process

    dir = Directory(
        os.path.abspath("."),
        "Directory of the database's directory; other relative paths start from it.",
        access="protected",
    )
    dbdirname = FileName(
        "lamina", "Name of the database's directory in `dir`. Lamina's own.", access="protected"
    )
    databases = Integer(16, 1, INT_MAX, "Databases that SELECT knows.", access="fixed")
    pidfile = Text("", "File that holds the process's number while it serves; empty: none.", access="fixed")
    logfile = Text(
        "", "File to log to, opened anew when it has been moved; empty: standard output.", access="fixed"
    )
    loglevel = Enum(
        "notice",
        "debug verbose notice warning",
        "The least that is logged. Nothing is said at the levels below `notice` at present.",
    )
    supervised = Enum(
        "no",
        "upstart systemd auto no",
        "Whom to tell that the server is ready; auto: who has left word in the environment.",
        access="fixed",
    )
    hz = ClampedInteger(10, 1, 500, "Rounds of background work per second.")

    # --- What it keeps, and how

    appendfsync = Enum(
        "everysec", "everysec always no", "When the log is synced: each tick, second, or never."
    )
    dbfilename = FileName(
        "dump.rdb", "File in `dir` that SAVE and BGSAVE write, for Redis to read.", access="protected"
    )
    # Redis's default writes a file every hour at least. Of a database larger than memory that must be wanted.
    save = Save(
        (),
        "Write it when so many seconds have passed and so many changes made; empty: only when asked."
        " Nothing depends on it: every write is logged.",
    )
    rdbcompression = YesNo(True, "Compress strings in that file, and in what DUMP returns.")
    rdbchecksum = YesNo(True, "End that file with a checksum.", access="fixed")
    rdb_save_incremental_fsync = YesNo(True, "Sync that file every 4 MB while it is written, not at its end.")
    memory = Memory(
        256 * MIB, 2 * MIB, 1 << 46, "Memory for memtables and caches together. Lamina's own.", access="fixed"
    )
    memtable_size = Memory(
        0,
        0,
        1 << 40,
        "Memory of one memtable; 0: a sixth of the engine's, 64 MB at most. Lamina's own.",
        access="fixed",
    )
    block_size = Memory(8 * KIB, 64, 64 * MIB, "Raw size of a block. Lamina's own.", access="fixed")
    segment_size = Memory(32 * MIB, KIB, 1 << 40, "Size of a segment on disk. Lamina's own.", access="fixed")
    compression = Enum("lz4", "lz4 none", "How blocks are stored. Lamina's own.", access="fixed")
    filter_bits = Integer(
        10, 0, 32, "Bits of Bloom filter for each key; 0: none. Lamina's own.", access="fixed"
    )
    level_runs = Integer(4, 2, 64, "Runs a level holds before they are merged. Lamina's own.", access="fixed")
    rate_limit = Memory(
        0,
        0,
        1 << 46,
        "Bytes per second that compactions may write; 0: no limit. Lamina's own.",
        access="fixed",
    )
    open_files = Integer(512, 8, 1 << 20, "Segments kept open at once. Lamina's own.", access="fixed")
    maxmemory = Memory(0, 0, MEMORY_MAX, "Shown for Redis's clients. Data lives on disk: see `memory`.")
    maxmemory_policy = Enum(
        "noeviction", _EVICTION_POLICIES, "Shown for Redis's clients; nothing is evicted."
    )

    # --- Limits on clients

    proto_max_bulk_len = Memory(
        512 * MIB,
        MIB,
        INTEGER_MAX,
        "Longest string, and longest argument, which has 512 MiB less 64 bytes at most.",
    )
    client_query_buffer_limit = Memory(
        1024 * MIB, MIB, INTEGER_MAX, "Longest request that is not complete yet."
    )
    client_output_buffer_limit = OutputLimits(
        _OUTPUT_LIMITS, "Replies that may wait for a client before it is disconnected, by class."
    )
    command_memory = Memory(
        1024 * MIB,
        0,
        INTEGER_MAX,
        "Memory that one command may take for what it gathers of collections on disk, to return, sort or"
        " combine them; 0: no limit. Lamina's own.",
    )
    busy_reply_threshold = Integer(
        5000,
        0,
        INTEGER_MAX,
        "Milliseconds a script may run before others are answered BUSY and it can be killed; 0: no limit.",
        alias="lua-time-limit",
    )
    script_memory = Memory(
        256 * MIB,
        16 * MIB,
        1 << 40,
        "Memory of Lua: scripts, and what they hold. Lamina's own.",
        access="fixed",
    )
    tracking_table_max_keys = Integer(1000000, 0, INTEGER_MAX, "Keys remembered for CLIENT TRACKING.")

    # --- What it tells of itself

    slowlog_log_slower_than = Integer(
        10000, -1, INTEGER_MAX, "Microseconds that make a command slow; -1: none."
    )
    slowlog_max_len = Integer(128, 0, INTEGER_MAX, "Entries that SLOWLOG keeps.")
    latency_monitor_threshold = Integer(0, 0, INTEGER_MAX, "Milliseconds that make a LATENCY event; 0: none.")
    latency_tracking = YesNo(
        True, "Keep a histogram of each command's time, for LATENCY HISTOGRAM and INFO latencystats."
    )
    latency_tracking_info_percentiles = Percentiles((50.0, 99.0, 99.9), "Percentiles of it that INFO shows.")
    notify_keyspace_events = EventClasses(
        _EVENT_LETTERS, events.ALL, "Changes of keys that are published, by letters; empty: none."
    )

    # --- Sizes up to which OBJECT ENCODING names the compact encoding

    hash_max_listpack_entries = Integer(512, 0, INTEGER_MAX, "Fields.", alias="hash-max-ziplist-entries")
    hash_max_listpack_value = Memory(64, 0, INTEGER_MAX, "Bytes.", alias="hash-max-ziplist-value")
    hll_sparse_max_bytes = Memory(3000, 0, INTEGER_MAX, "Bytes of a HyperLogLog that is kept sparse.")
    list_max_listpack_size = Integer(
        -2, -INT_MAX - 1, INT_MAX, "Elements, or -1 to -5: 4 to 64 KB.", alias="list-max-ziplist-size"
    )
    set_max_intset_entries = Integer(512, 0, INTEGER_MAX, "Members that are all integers.")
    set_max_listpack_entries = Integer(128, 0, INTEGER_MAX, "Members.")
    set_max_listpack_value = Memory(64, 0, INTEGER_MAX, "Bytes.")
    stream_node_max_bytes = Memory(4096, 0, INTEGER_MAX, "Bytes of a stream's node in files and payloads.")
    stream_node_max_entries = Integer(
        100, 0, INTEGER_MAX, "Entries of one; trimming with ~ removes so many at a time. 0: any number."
    )
    zset_max_listpack_entries = Integer(128, 0, INTEGER_MAX, "Members.", alias="zset-max-ziplist-entries")
    zset_max_listpack_value = Memory(64, 0, INTEGER_MAX, "Bytes.", alias="zset-max-ziplist-value")
