"""The merge kernel against dictionaries: counted and not, with discards, over any cut of the key space."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from harness.trees import Entry, Workshop, live, random_history
from lamina.engine.compaction.merge import Columns, CopiedBlock, Cursor, combine_columns, merge
from lamina.engine.discards import Discards
from lamina.engine.entry import (
    DELETE,
    INSERT,
    INVALID,
    REMOVE,
    REPLACE,
    VANISHED,
    combine,
    is_live,
)
from lamina.engine.errors import CorruptionError
from lamina.engine.run import Run, Slice
from lamina.engine.segment.block import Block
from lamina.engine.segment.reader import SegmentReader

Stop = bytes | None


def run_merge(
    runs: Sequence[Run],
    *,
    counted: bool = True,
    is_last: bool = False,
    start: bytes = b"",
    stop: Stop = None,
    discards: Discards | None = None,
    filter_bits_per_key: int = 10,
) -> list[Columns | CopiedBlock]:
    """Merge runs, newest first, and return what the kernel yields."""
    cursors = [Cursor(run.slices, start, stop, discards or Discards()) for run in runs]
    return list(
        merge(cursors, counted=counted, is_last=is_last, filter_bits_per_key=filter_bits_per_key, path="/db")
    )


def entries_of(
    pieces: Sequence[Columns | CopiedBlock], segments: Sequence[SegmentReader] = ()
) -> list[Entry]:
    """Return the entries of what a merge yields; copied blocks are found again in their segments."""
    found: list[Entry] = []
    for piece in pieces:
        if isinstance(piece, CopiedBlock):
            block = copied_block(piece, segments)
            assert (piece.first, piece.last) == (block.key(0), block.key(block.count - 1))
            assert piece.counts[0] == block.count
            found += zip(block.keys(), block.kinds, block.values(), strict=True)
        else:
            assert piece.keys == sorted(set(piece.keys))
            found += zip(piece.keys, piece.kinds, piece.values, strict=True)
    assert [key for key, _, _ in found] == sorted({key for key, _, _ in found})
    return found


def copied_block(piece: CopiedBlock, segments: Sequence[SegmentReader]) -> Block:
    for segment in segments:
        for number in range(len(segment.part_floors)):
            part = segment.part(number)
            for b, frame in enumerate(segment.read_frames(part, 0, len(part.floors))):
                if frame == piece.frame:
                    return segment.decode_block(part, b, frame)
    raise AssertionError("a copied block is in no segment")


def model(
    layers: Sequence[Sequence[Entry]], *, counted: bool, is_last: bool, start: bytes = b"", stop: Stop = None
) -> list[Entry]:
    """Return what layers, newest first, amount to: one key at a time."""
    merged: dict[bytes, tuple[int, bytes]] = {}
    for layer in reversed(layers):
        for key, kind, value in layer:
            if key < start or (stop is not None and key >= stop):
                continue
            if counted and key in merged:
                kind = combine(kind, merged[key][0])
                assert kind != INVALID
                if kind == VANISHED:
                    del merged[key]
                    continue
            merged[key] = kind, value
    found = [(key, *merged[key]) for key in sorted(merged)]
    return [e for e in found if e[1] != DELETE] if is_last else found


def segments_of(runs: Sequence[Run]) -> list[SegmentReader]:
    return [piece.segment for run in runs for piece in run.slices]


KEYS = [b"k%03d" % n for n in range(80)]


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("seed", range(25))
def test_against_dictionaries(seed: int, counted: bool) -> None:
    random = Random(seed)
    count = random.randrange(1, 6)
    history, state = random_history(random, KEYS, count, counted=counted, changes=random.choice((5, 40, 150)))
    workshop = Workshop(counted=counted)
    runs: list[Run] = []
    for layer in history:
        cuts = sorted(random.choices(range(len(layer) + 1), k=2))
        block_size_bytes = random.choice((64, 100, 1000))
        pieces = layer[: cuts[0]], layer[cuts[0] : cuts[1]], layer[cuts[1] :]
        if layer:
            runs.insert(0, workshop.run(*pieces, block_size_bytes=block_size_bytes))
    layers = [layer for layer in reversed(history) if layer]
    for is_last in (False, True):
        found = entries_of(run_merge(runs, counted=counted, is_last=is_last), segments_of(runs))
        assert found == model(layers, counted=counted, is_last=is_last)
        assert {key: value for key, kind, value in found if is_live(kind)} == state
        if is_last:
            assert all(kind == (INSERT if counted else REPLACE) for _, kind, _ in found)
    # Part of the layers, and part of the key space.
    first, last = sorted(random.choices(range(len(layers) + 1), k=2))
    start, stop = sorted(random.choices(KEYS, k=2))
    bounds: list[tuple[bytes, Stop]] = [(b"", stop), (start, None), (start, stop)]
    for low, high in bounds:
        chosen = runs[first:last]
        found = entries_of(run_merge(chosen, counted=counted, start=low, stop=high), segments_of(chosen))
        assert found == model(layers[first:last], counted=counted, is_last=False, start=low, stop=high)


@pytest.mark.parametrize("seed", range(10))
def test_slices_show_only_their_part(seed: int) -> None:
    random = Random(seed)
    history, _ = random_history(random, KEYS, 3)
    workshop = Workshop()
    runs: list[Run] = []
    layers: list[list[Entry]] = []
    for layer in history:
        start, stop = sorted(random.choices(KEYS, k=2))
        run = workshop.run(layer)
        runs.insert(0, Run(run.number, [p for piece in run.slices for p in piece.without(start, stop)]))
        layers.insert(0, [e for e in layer if not start <= e[0] < stop])
    # What is cut out of one layer may leave contradictions: only keys that all layers show are asked for.
    kept = set(KEYS)
    for layer, original in zip(layers, reversed(history), strict=True):
        kept -= {key for key, _, _ in original} - {key for key, _, _ in layer}
    for key in sorted(kept):
        found = entries_of(run_merge(runs, start=key, stop=key + b"\0"), segments_of(runs))
        assert found == model(layers, counted=True, is_last=False, start=key, stop=key + b"\0")


@pytest.mark.parametrize(
    ("newer", "older"),
    [(newer, older) for newer in range(1, 4) for older in range(1, 4) if combine(newer, older) == INVALID],
)
def test_entries_that_contradict_each_other_are_corruption(newer: int, older: int) -> None:
    workshop = Workshop()
    older_run, newer_run = (
        workshop.run(sorted([(b"k", kind, b"v" if is_live(kind) else b""), (neighbour, INSERT, b"")]))
        for kind, neighbour in ((older, b"a"), (newer, b"z"))
    )
    with pytest.raises(CorruptionError, match="entries of key b'k' contradict each other") as caught:
        run_merge([newer_run, older_run])
    assert caught.value.path == "/db"


@pytest.mark.parametrize("kind", [REPLACE, REMOVE])
@pytest.mark.parametrize("alone", [False, True])
def test_nothing_is_replaced_or_removed_in_the_last_layer(kind: int, alone: bool) -> None:
    workshop = Workshop()
    entry = (b"k", kind, b"v" if is_live(kind) else b"")
    runs = [workshop.run([entry])] + ([] if alone else [workshop.run([(b"other", INSERT, b"")])])
    with pytest.raises(CorruptionError, match="key b'k' is replaced or removed in the last layer"):
        run_merge(runs, is_last=True)
    assert entry in entries_of(run_merge(runs), segments_of(runs))


@pytest.mark.parametrize("seed", range(10))
def test_discarded_entries_are_dropped(seed: int) -> None:
    random = Random(seed)
    history, _ = random_history(random, KEYS, 3)
    workshop = Workshop()
    runs = [workshop.run(layer) for layer in history][::-1]
    discards = Discards()
    for _ in range(random.randrange(1, 5)):
        start, stop = sorted(random.sample(KEYS, 2))
        discards.add(start, stop)
    layers = [
        [e for e in layer if not discards.overlapping(e[0], e[0] + b"\0")] for layer in reversed(history)
    ]
    for is_last in (False, True):
        found = entries_of(run_merge(runs, discards=discards, is_last=is_last), segments_of(runs))
        assert found == model(layers, counted=True, is_last=is_last)


# -- copying -------------------------------------------------------------------------------------------


def decoded_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often the columns of a block are taken apart."""
    taken: list[int] = []
    original = Block.values

    def values(self: Block) -> list[bytes]:
        taken.append(self.count)
        return original(self)

    monkeypatch.setattr(Block, "values", values)
    return taken


def wide(prefix: bytes, count: int) -> list[Entry]:
    return live({prefix + b"%05d" % n: b"v" * 50 for n in range(count)})


def test_disjoint_runs_are_copied_and_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = Workshop()
    # 18 entries fill a block; a last block of fewer than 8 would be decoded, so that it can grow.
    count = 18 * 22
    runs = [workshop.run(wide(prefix, count), block_size_bytes=1000) for prefix in (b"c", b"a", b"b")]
    taken = decoded_blocks(monkeypatch)
    pieces = run_merge(runs, is_last=True)
    assert taken == []
    assert all(isinstance(piece, CopiedBlock) for piece in pieces)
    assert len(pieces) == sum(segment.properties.blocks for segment in segments_of(runs))
    assert [e[0] for e in entries_of(pieces, segments_of(runs))] == sorted(
        key for prefix in (b"a", b"b", b"c") for key, _, _ in wide(prefix, count)
    )


def test_only_blocks_that_overlap_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = Workshop()
    large = wide(b"k", 4000)
    runs = [workshop.run([(b"k02000x", INSERT, b"one")]), workshop.run(large, block_size_bytes=1000)]
    taken = decoded_blocks(monkeypatch)
    pieces = run_merge(runs)
    assert sum(taken) < 400
    found = entries_of(pieces, segments_of(runs))
    assert found == sorted([*large, (b"k02000x", INSERT, b"one")])


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("another filter", {"filter_bits_per_key": 12}),
        ("a bound inside the block", {"start": b"k00001"}),
        ("small", {}),
        ("tombstones in the last layer", {"is_last": True, "counted": False}),
    ],
)
def test_what_is_not_copied(reason: str, options: dict[str, object]) -> None:
    entries = wide(b"k", 20)
    if reason == "small":
        entries = entries[:5]
    if reason.startswith("tombstones"):
        entries = [(key, REPLACE, value) for key, _, value in entries]
        entries[7] = (entries[7][0], DELETE, b"")
    workshop = Workshop(counted=bool(options.get("counted", True)))
    runs = [workshop.run(entries, block_size_bytes=100_000)]
    pieces = run_merge(runs, **options)  # type: ignore[arg-type]
    assert all(isinstance(piece, Columns) for piece in pieces), reason
    if reason.startswith("tombstones"):
        assert len(entries_of(pieces)) == 19


def test_blocks_with_discarded_keys_are_decoded() -> None:
    workshop = Workshop()
    runs = [workshop.run(wide(b"k", 1000), block_size_bytes=1000)]
    discards = Discards()
    discards.add(b"k00300", b"k00310")
    pieces = run_merge(runs, discards=discards)
    assert any(isinstance(piece, Columns) for piece in pieces)
    assert sum(isinstance(piece, CopiedBlock) for piece in pieces) > len(pieces) // 2
    assert len(entries_of(pieces, segments_of(runs))) == 990


def test_whole_discarded_blocks_are_not_even_read() -> None:
    workshop = Workshop(cache_bytes=0)
    runs = [workshop.run(wide(b"k", 5000), block_size_bytes=1000)]
    (segment,) = segments_of(runs)
    read: list[int] = []
    original = SegmentReader.read_frames

    def read_frames(self: SegmentReader, part: object, start: int, stop: int) -> list[bytes]:
        read.append(stop - start)
        return original(self, part, start, stop)  # type: ignore[arg-type]

    discards = Discards()
    discards.add(b"k00100", b"k04900")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentReader, "read_frames", read_frames)
        pieces = run_merge(runs, discards=discards)
    assert len(entries_of(pieces, [segment])) == 200
    assert sum(read) < segment.properties.blocks // 5


# -- keys longer than floors ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_keys_with_long_common_prefixes(seed: int) -> None:
    """Floors are cut short there and bound their blocks only loosely."""
    random = Random(seed)
    keys = [
        b"a",
        b"z",
        *(b"p" * 4094 + b"%03d" % n for n in range(30)),
        *(b"p" * 5000 + b"%03d" % n for n in range(30)),
    ]
    history, _ = random_history(random, keys, 3, changes=60)
    workshop = Workshop()
    runs = [workshop.run(layer, block_size_bytes=64) for layer in history][::-1]
    found = entries_of(run_merge(runs, is_last=True), segments_of(runs))
    assert found == model(history[::-1], counted=True, is_last=True)
    start, stop = sorted(random.sample(keys, 2))
    found = entries_of(run_merge(runs, start=start, stop=stop), segments_of(runs))
    assert found == model(history[::-1], counted=True, is_last=False, start=start, stop=stop)


def test_a_cursor_over_nothing_is_done() -> None:
    assert Cursor([], b"", None, Discards()).is_done()
    piece = Slice.whole(Workshop().segment(wide(b"k", 10)))
    assert Cursor([piece], b"x", None, Discards()).is_done()
    assert run_merge([]) == []


def test_combine_columns_prefers_the_newest() -> None:
    newest = Columns([b"a", b"b"], [b"1", b""], bytes((REPLACE, REMOVE)))
    oldest = Columns([b"a", b"b", b"c"], [b"0", b"0", b"0"], bytes((INSERT,)) * 3)
    merged = combine_columns([newest, oldest], counted=True, is_last=True, path="/db")
    assert merged == ([b"a", b"c"], [b"1", b"0"], bytes((INSERT,)) * 2)
