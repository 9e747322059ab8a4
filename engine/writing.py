"""What can be written to a database: one entry, batches, and batches that are staged first.

A write is one frame in the log, then one pass into the active memtable, both under `_lock`. If anything but
the log's refusal comes between the two, writing ends until the database is opened again.

Staging turns the order round: `stage` puts a batch into the memtable, where readers find it, and `write` logs
everything that is staged, with its own batches, as one frame. Until then the memtable holds what no log does,
so nothing may seal or log it: whoever wants to, other than by `write`, gets ValueError. `unstage`, and a
`write` that fails, take it all back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from lamina.engine.batch import ENTRY, Batch, Discard, check_discard, check_key, check_value, encode_writes
from lamina.engine.entry import INSERT, KEY_SIZE_MAX, REPLACE, VALUE_SIZE_MAX
from lamina.engine.errors import EngineError, PoisonedError
from lamina.engine.logs import Logs
from lamina.engine.memtable import ABSENT, ENTRY_OVERHEAD_BYTES, Memtable
from lamina.engine.metrics import Counters
from lamina.engine.reading import Readable
from lamina.engine.resolution import columns, entries_size_bytes, join_batches, resolve
from lamina.engine.staging import Staged

_SMALL_SIZE_BYTES = min(KEY_SIZE_MAX, VALUE_SIZE_MAX)
_HARMLESS = (OSError, EngineError, ValueError)
"""What may come out of a write before anything of it is in the log, or after the log has been set back."""

_pack_entry = ENTRY.pack


class Writable(Readable):
    """The writing half of `Database`, which owns what is declared here."""

    path: str
    counted: bool
    counters: Counters
    logs: Logs
    _lock: threading.Lock
    _memtable: Memtable
    _staged: Staged | None
    _refusal: Exception | None
    _stall: float
    _budget_bytes: int
    _is_always: bool

    def _wait_for_room(self, size_bytes: int) -> None:
        raise NotImplementedError

    def _seal_full(self) -> None:
        raise NotImplementedError

    def _sync(self, sync: Callable[[], None]) -> None:
        raise NotImplementedError

    # -- single entries ----------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes, *, existed: bool | None = None) -> None:
        """Store `value` under `key`.

        `existed`: see `Batch.put`. Cost: 2 µs, plus a look for `key` if the database is counted and `existed`
        is not given. Errors: TypeError, ValueError (also while something is staged), ClosedError,
        ReadOnlyError, PoisonedError; OSError where the log cannot be written: then nothing has happened, and
        writing may be tried again.
        """
        if type(key) is not bytes or type(value) is not bytes:
            key, value = check_key(key), check_value(value)
        key_size = len(key)
        size_bytes = key_size + len(value)
        if size_bytes > _SMALL_SIZE_BYTES:
            check_key(key)
            check_value(value)
        if self._stall:
            self._wait_for_room(size_bytes)
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            if self._staged is not None:
                self._check_unstaged()
            memtable = self._memtable
            inserted = memtable.inserted
            based = memtable.based
            table: dict[bytes, bytes] | dict[bytes, bytes | None]
            try:
                if not self.counted:
                    self.logs.append(_pack_entry(REPLACE, key_size) + key + value)
                    if key not in based:
                        memtable.touched.append(key)
                    based[key] = value
                else:
                    notes: list[bytes] | None = None
                    if key in inserted:
                        table, kind = inserted, REPLACE
                    elif (found := based.get(key, ABSENT)) is not ABSENT:
                        table = based
                        kind, notes = (INSERT, memtable.came) if found is None else (REPLACE, None)
                    elif self.view.exists_below(key) if existed is None else existed:
                        table, kind, notes = based, REPLACE, memtable.touched
                    else:
                        table, kind, notes = inserted, INSERT, memtable.came
                    self.logs.append(_pack_entry(kind, key_size) + key + value)
                    if notes is not None:
                        notes.append(key)
                        if len(notes) > memtable.notes_max:
                            memtable.tidy()
                    table[key] = value
                self.counters.user_bytes += size_bytes
                memtable.written_bytes += size_bytes
            except _HARMLESS:
                raise
            except BaseException:
                self._refuse_after_interruption()
                raise
            table_size = len(inserted) + len(based)
            is_full = memtable.written_bytes + ENTRY_OVERHEAD_BYTES * table_size >= self._budget_bytes
        if is_full:
            self._seal_full()
        if self._is_always:
            self._sync(self.logs.sync_active)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.put(key, value)

    def delete(self, key: bytes, *, existed: bool | None = None) -> None:
        """Remove `key`; fine if it is not there. Otherwise as `put`."""
        batch = Batch()
        batch.delete(key, existed=existed)
        self._check_unstaged()
        self.write(batch)

    def __delitem__(self, key: bytes) -> None:
        self.delete(key)

    def discard(self, start: bytes, stop: bytes) -> None:
        """Give up the range ``start <= key < stop``: the caller promises never to read or write a key of it
        again.

        Costs next to nothing whatever the range holds; its space comes back as compaction meets it, without
        being read, and segments that lie wholly inside it go at once. Scans and counts pass the range over
        from now on.
        """
        batch = Batch()
        batch.discard(*check_discard(start, stop))
        self._check_unstaged()
        self.write(batch)

    # -- batches -----------------------------------------------------------------------------------

    def batch(self) -> Batch:
        """Return a batch that is written when its ``with`` block ends."""
        return Batch(self.write)

    def write(self, *batches: Batch, sync: bool = True) -> None:
        """Write what is staged and these batches, all or nothing, as one frame: group commit.

        Later batches win over earlier ones, and all over what is staged. ``sync=False`` leaves it to a later
        `sync` to make them durable, whatever the option says. Cost: 1 µs, and 0.3 µs per entry. Errors: as
        `put`; what was staged has then been taken back, unless the error is a failed sync.
        """
        entries, existed, discards = join_batches(batches)
        if not entries and not discards and self._staged is None:
            return
        if self._stall:
            self._wait_for_room_or_unstage(entries_size_bytes(entries))
        with self._lock:
            if self._staged is not None:
                self._write_staged(self._staged, entries, existed, discards)
            elif self._refusal is not None:
                raise self._refusal
            else:
                memtable = self._memtable
                entries, places, kinds = resolve(entries, existed, memtable, self.view)
                try:
                    if entries or discards:
                        keys, values = columns(entries, kinds)
                        payload, size_bytes = encode_writes(keys, values, kinds, discards)
                        self.logs.append(payload)
                        memtable.store(entries, places, size_bytes)
                        self.counters.user_bytes += size_bytes
                        if discards:
                            self._note_discards(discards)
                except _HARMLESS:
                    raise
                except BaseException:
                    self._refuse_after_interruption()
                    raise
            is_full = self._memtable.size_bytes >= self._budget_bytes
        if is_full:
            self._seal_full()
        if self._is_always and sync:
            self._sync(self.logs.sync_active)

    def _note_discards(self, discards: list[Discard]) -> None:
        """Have readers pass over ranges that are in the log now."""
        self._memtable.discards += discards
        for start, stop in discards:
            self.view.discards.add(start, stop)

    # -- staging -----------------------------------------------------------------------------------

    def stage(self, batch: Batch) -> None:
        """Show a batch to all reads of this database now; the next `write` logs it, first in its frame.

        For one writer that gathers many writes, and reads ranges in between: ranges know nothing of
        `Batch.entries`. May be called several times; the batch may be changed afterwards. Its `existed` words
        speak of this moment, after earlier stages; its discards wait for the write. A crash before the write
        leaves nothing. Until `write` or `unstage`, other threads see what is staged as well, and everything
        else that logs or seals (`put`, `delete`, `discard`, `flush`, `compact`, `snapshot`, `checkpoint`)
        raises ValueError; closing takes it back. Does not wait for room. Cost: 0.3 µs per entry. Errors:
        ClosedError, ReadOnlyError, PoisonedError; the batch is then not staged, earlier ones still are.
        """
        entries, discards = batch.entries, batch.discards
        if not entries and not discards:
            return
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            count = 0 if self._staged is None else len(self._staged)
            try:
                if self._staged is None:
                    self._staged = Staged(self._memtable)
                self._staged.add(entries, batch.existed, discards, self.view)
            except BaseException:
                self._rewind(count)
                raise

    def unstage(self) -> None:
        """Take back everything that is staged, as if it had never been. Fine if nothing is."""
        with self._lock:
            self._rewind(0)

    def _rewind(self, count: int) -> None:
        """Take back all stages but the first `count`. The caller holds `_lock`."""
        if self._staged is None:
            return
        try:
            self._staged.rewind(count)
        except BaseException:
            self._refuse_after_interruption()
            raise
        if not count:
            self._staged = None

    def _write_staged(
        self,
        staged: Staged,
        entries: dict[bytes, bytes | None],
        existed: dict[bytes, bool],
        discards: list[Discard],
    ) -> None:
        """Log what is staged with the batch that closes it. The caller holds `_lock`."""
        try:
            if self._refusal is not None:
                raise self._refusal
            if entries or discards:
                staged.add(entries, existed, discards, self.view)
            keys, values, kinds, discards = staged.joined()
            payload, size_bytes = encode_writes(keys, values, kinds, discards)
        except BaseException:
            self._rewind(0)  # nothing has been logged yet: even an interruption does no harm
            raise
        try:
            if keys or discards:
                self.logs.append(payload)
            # What the frame holds counts, as it will when it is replayed, and not what the stages held.
            self._memtable.written_bytes = staged.written_before_bytes + size_bytes
            self.counters.user_bytes += size_bytes
            self._note_discards(discards)
            self._staged = None
        except _HARMLESS:
            self._rewind(0)
            raise
        except BaseException:
            self._staged = None  # it may be in the log, so it stays
            self._refuse_after_interruption()
            raise

    def _wait_for_room_or_unstage(self, size_bytes: int) -> None:
        """Wait as `put` does; if that ends in an error, what is staged will not be written either."""
        try:
            self._wait_for_room(size_bytes)
        except BaseException:
            self.unstage()
            raise

    def _check_unstaged(self) -> None:
        """Refuse what would log or seal the memtable without what is staged. Errors: ValueError."""
        if self._staged is not None:
            raise ValueError(f"{self.path}: batches are staged; write or unstage what is staged first")

    # -- interruptions -----------------------------------------------------------------------------

    def _refuse_after_interruption(self) -> None:
        """Stop writing: something (Ctrl-C, no memory) came between a write's way into the log and into the
        memtable.

        What the log says of later writes would build on a memtable that lacks this one.
        """
        self._refusal = PoisonedError(f"{self.path}: a write was interrupted half-way; reopen the database")
        self._memtable.forget_order()  # it may have been noted and not have happened
