"""Everything that can be tuned, with its unit, its default, and what raising or lowering it does."""

from __future__ import annotations

import dataclasses
from typing import Literal

Sync = Literal["always", "everysec", "no"]
Background = Literal["process", "thread", "inline"]
Compression = Literal["lz4", "none"]

KIB = 1024
MIB = 1024 * KIB


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of `lamina.engine.open`. Those marked *kept* are fixed when the database is created."""

    create: bool = True
    """Create the database if the directory holds none; otherwise opening a missing one is an error."""

    error_if_exists: bool = False
    """Refuse to open a database that is already there."""

    read_only: bool = False
    """Open without the lock, beside a live writer if there is one: the data as of the moment of opening."""

    counted: bool | None = None
    """*Kept.* True (the default of a new database): exact counts, ranks and positions in logarithmic time, at
    the price of one existence check for each put. False: blind writes, the fastest loading; counts scan."""

    sync: Sync = "everysec"
    """When the write-ahead log reaches the disk: before each write returns, once a second, or when the system
    pleases. Whatever the setting, an acknowledged write survives the death of the process."""

    background: Background = "process"
    """Where flushes and compactions run: in a worker process (beside the writer's interpreter lock), in a
    thread, or inline in the write that caused them (deterministic: for tools and tests)."""

    workers: int = 1
    """Processes that share a merge by key ranges (only ``background="process"``). More: merges are done
    sooner where cores are idle; each takes some tens of megabytes."""

    memory: int = 256 * MIB
    """Bytes shared between memtables and the block cache; the resident size settles near it. More memory
    means fewer, larger flushes and fewer reads from disk."""

    memtable_size_bytes: int | None = None
    """Memory of one memtable before it is sealed and flushed; by default a sixth of `memory`. Up to three
    exist at once. Larger: less write amplification, longer recovery."""

    block_size_bytes: int = 8 * KIB
    """Raw size at which a block is closed. Larger: better compression and faster scans, slower cold reads."""

    segment_size_bytes: int = 32 * MIB
    """Size on disk at which a segment is closed. Larger: fewer files; smaller: compactions commit more often
    and need less spare space."""

    compression: Compression = "lz4"
    """How blocks are stored."""

    filter_bits_per_key: int = 10
    """Bloom filter size; 10 bits give under 1.5 % false positives, 0 disables filters."""

    level_runs_max: int = 4
    """Runs a level holds before they are merged into one run of the next level. More: cheaper writes, dearer
    reads and more space."""

    rate_limit_bytes_per_s: int = 0
    """Upper bound on what compactions write (flushes are exempt: they bound memory); 0 means no limit."""

    open_files_max: int = 512
    """Segments whose files are kept open; others are reopened when they are read."""

    verify_on_open: bool = False
    """Read and verify every block when opening. Takes as long as reading the database."""

    def __post_init__(self) -> None:
        _check_choice("sync", self.sync, ("always", "everysec", "no"))
        _check_choice("background", self.background, ("process", "thread", "inline"))
        _check_choice("compression", self.compression, ("lz4", "none"))
        _check_range("memory", self.memory, 64 * KIB, 1 << 46)
        if self.memtable_size_bytes is not None:
            _check_range("memtable_size_bytes", self.memtable_size_bytes, 256, 1 << 40)
        _check_range("block_size_bytes", self.block_size_bytes, 64, 64 * MIB)
        _check_range("segment_size_bytes", self.segment_size_bytes, 1 * KIB, 1 << 40)
        _check_range("filter_bits_per_key", self.filter_bits_per_key, 0, 32)
        _check_range("level_runs_max", self.level_runs_max, 2, 64)
        _check_range("rate_limit_bytes_per_s", self.rate_limit_bytes_per_s, 0, 1 << 46)
        _check_range("workers", self.workers, 1, 256)
        _check_range("open_files_max", self.open_files_max, 8, 1 << 20)
        for name in ("create", "error_if_exists", "read_only", "verify_on_open"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"option {name} must be True or False, not {getattr(self, name)!r}")
        if self.counted is not None and not isinstance(self.counted, bool):
            raise TypeError(f"option counted must be True, False or None, not {self.counted!r}")

    @property
    def memtable_budget_bytes(self) -> int:
        """Memory at which the active memtable is sealed."""
        return self.memtable_size_bytes or max(self.memory // 6, 256)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"option {name} must be one of {', '.join(map(repr, choices))}, not {value!r}")


def _check_range(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"option {name} must be an integer, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"option {name} must be between {least} and {most}, not {value}")
