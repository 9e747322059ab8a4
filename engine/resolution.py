"""What a batch amounts to at the moment it is written: one entry for each key, with its kind."""

from __future__ import annotations

from lamina.engine.batch import Batch, Discard
from lamina.engine.entry import DELETE, INSERT, REMOVE, REPLACE
from lamina.engine.layers import View
from lamina.engine.memtable import ABSENT, Memtable


def join_batches(
    batches: tuple[Batch, ...],
) -> tuple[dict[bytes, bytes | None], dict[bytes, bool], list[Discard]]:
    """Return several batches as one: the last write of a key, the first word on whether it existed."""
    if len(batches) == 1:
        batch = batches[0]
        return batch.entries, batch.existed, batch.discards
    entries: dict[bytes, bytes | None] = {}
    existed: dict[bytes, bool] = {}
    discards: list[Discard] = []
    for batch in batches:
        existed.update((key, hint) for key, hint in batch.existed.items() if key not in entries)
        entries.update(batch.entries)
        discards += batch.discards
    return entries, existed, discards


def entries_size_bytes(entries: dict[bytes, bytes | None]) -> int:
    """Return the bytes of all keys and values."""
    return sum(map(len, entries)) + sum(len(value) for value in entries.values() if value is not None)


def resolve(
    entries: dict[bytes, bytes | None], existed: dict[bytes, bool], memtable: Memtable, view: View
) -> tuple[list[bytes], list[bytes], bytes]:
    """Return a batch's entries as columns, each with the kind it has at this moment.

    In a counted database that takes knowing whether each key exists: from the memtable, from the caller's
    word, or by a look into the layers below. Removals of absent keys drop out. Cost: 0.3 µs per entry, plus
    the looks.
    """
    if not view.counted:
        keys = list(entries)
        if None not in entries.values():
            return keys, list(entries.values()), bytes((REPLACE,)) * len(keys)  # type: ignore[arg-type]
        kinds = bytes([DELETE if value is None else REPLACE for value in entries.values()])
        return keys, [value or b"" for value in entries.values()], kinds
    inserted, based = memtable.inserted, memtable.based
    exists_below = view.exists_below
    keys = []
    values: list[bytes] = []
    kinds_out = bytearray()
    for key, value in entries.items():
        if key in inserted:
            exists = True
        elif (found := based.get(key, ABSENT)) is not ABSENT:
            exists = found is not None
        elif key in existed:
            exists = existed[key]
        else:
            exists = exists_below(key)
        if value is not None:
            kinds_out.append(REPLACE if exists else INSERT)
            values.append(value)
        elif exists:
            kinds_out.append(REMOVE)
            values.append(b"")
        else:
            continue
        keys.append(key)
    return keys, values, bytes(kinds_out)
