"""A picture of `lamina stats`: levels, sizes, types and expiry. Needs matplotlib, which is optional."""

from __future__ import annotations

import importlib
import importlib.util
import os
from itertools import accumulate
from typing import Any, Final

from lamina.tools.console import UsageError, human_count, human_size

Facts = dict[str, Any]

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_BLUE: Final = "#0072B2"
_ORANGE: Final = "#E69F00"
_GREEN: Final = "#009E73"
_GREY: Final = "#999999"
_TYPE_COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
_ENDINGS: Final = (".png", ".svg", ".pdf")
_DOTS_PER_INCH: Final = 130
_TICKS_MAX: Final = 7


def require(path: str) -> None:
    """Refuse to draw into `path` before work begins if that could not end well. Errors: UsageError."""
    if not path.endswith(_ENDINGS):
        raise UsageError(f"{path}: pictures end in {', '.join(_ENDINGS)}")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError(f"{path}: there is no folder {folder}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: pip install 'lamina[plot]'")


def draw(facts: Facts, path: str) -> None:
    """Draw what `lamina stats` has gathered. Errors: OSError."""
    # Imported by name and here: it is optional, and takes half a second that only pictures need.
    figure_module: Any = importlib.import_module("matplotlib.figure")
    panels = [(_draw_levels, facts), (_draw_files, facts)]
    if "key_sizes" in facts:
        panels += [(_draw_sizes, facts), (_draw_shares, facts)]
    if facts["redis"]:
        panels += [(_draw_types, facts), (_draw_expiry, facts)]
    rows = (len(panels) + 1) // 2
    figure = figure_module.Figure(figsize=(12, 0.8 + 3.4 * rows), layout="constrained")
    figure.suptitle(_title(facts), fontsize=12)
    grid = figure.subplots(rows, 2, squeeze=False)
    for (panel, of), axes in zip(panels, grid.flat):
        panel(axes, of)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _title(facts: Facts) -> str:
    live = "" if facts["live_keys"] is None else f"{human_count(facts['live_keys'])} live entries, "
    size = human_size(facts["files"]["segment_bytes"] + facts["files"]["log_bytes"])
    return f"{os.path.basename(facts['directory'])}: {live}{size} on disk"


def _empty(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", color=_GREY, transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_levels(axes: Any, facts: Facts) -> None:
    """Bytes of each level, its tombstones' share set off."""
    axes.set_title("Levels")
    levels = facts["levels"]
    if not levels:
        _empty(axes, "all data is in the log")
        return
    names = [f"level {level['level']}" for level in levels]
    sizes = [level["size_bytes"] for level in levels]
    dead = [
        level["size_bytes"] * level["tombstones"] / level["entries"] if level["entries"] else 0
        for level in levels
    ]
    axes.barh(names, [size - d for size, d in zip(sizes, dead)], color=_BLUE, label="values")
    axes.barh(names, dead, left=[s - d for s, d in zip(sizes, dead)], color=_ORANGE, label="tombstones")
    for row, level in enumerate(levels):
        runs = f"{level['runs']} run{'s' * (level['runs'] != 1)}"
        label = f" {human_size(level['size_bytes'])}, {runs}, {human_count(level['segments'])} seg."
        axes.text(sizes[row], row, label, va="center", fontsize=8, color="#444444")
    axes.set_xlim(0, max(sizes) * 1.5 or 1)
    axes.invert_yaxis()
    _size_ticks(axes, max(sizes) * 1.5)
    axes.grid(axis="x", alpha=0.3)
    if any(dead):
        axes.legend(loc="lower right", fontsize=8, frameon=False)


def _draw_files(axes: Any, facts: Facts) -> None:
    """Sizes of the segments, level by level, one dot each."""
    axes.set_title("Segments")
    levels = [level for level in facts["levels"] if level["segment_bytes"]]
    if not levels:
        _empty(axes, "no segments")
        return
    for level in levels:
        sizes = sorted(level["segment_bytes"])
        # Spread over the height of the row, so that a thousand of one size can be told from ten.
        height = [level["level"] + (i + 0.5) / len(sizes) * 0.7 - 0.35 for i in range(len(sizes))]
        axes.scatter(sizes, height, s=14, color=_BLUE, alpha=0.6, linewidths=0)
    axes.set_yticks([level["level"] for level in levels], [f"level {level['level']}" for level in levels])
    axes.invert_yaxis()
    most_bytes = max(max(level["segment_bytes"]) for level in levels)
    axes.set_xlim(0, most_bytes * 1.1)
    _size_ticks(axes, most_bytes * 1.1)
    axes.set_xlabel("size of file")
    axes.grid(axis="x", alpha=0.3)


def _draw_sizes(axes: Any, facts: Facts) -> None:
    """Histograms of key and value sizes."""
    axes.set_title("Sizes of keys and values")
    if not facts["live_keys"]:
        _empty(axes, "no entries")
        return
    for name, colour, shift in (("key_sizes", _GREEN, -0.2), ("value_sizes", _BLUE, 0.2)):
        rows = facts[name]["histogram"]
        places = [high.bit_length() + shift for _, high, _ in rows]
        label = f"{name.split('_')[0]}s, mean {facts[name]['mean_bytes']} B"
        axes.bar(places, [count for _, _, count in rows], 0.4, color=colour, label=label)
    _power_ticks(axes, facts)
    axes.set_yscale("log")
    axes.set_ylabel("entries")
    axes.set_xlabel("smaller than")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, frameon=False)


def _draw_shares(axes: Any, facts: Facts) -> None:
    """Which share of all values has at most so many bytes."""
    axes.set_title("Share of keys and values below a size")
    if not facts["live_keys"]:
        _empty(axes, "no entries")
        return
    last = _last_power(facts)
    for name, colour in (("key_sizes", _GREEN), ("value_sizes", _BLUE)):
        counts = {high.bit_length(): count for _, high, count in facts[name]["histogram"]}
        total = max(facts[name]["count"], 1)
        sums = accumulate(counts.get(bits, 0) for bits in range(last + 1))
        shares = [100 * count / total for count in sums]
        axes.plot(
            range(last + 1), shares, marker="o", markersize=3, color=colour, label=f"{name.split('_')[0]}s"
        )
    _power_ticks(axes, facts)
    axes.set_ylim(0, 105)
    axes.set_ylabel("%")
    axes.set_xlabel("smaller than")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _draw_types(axes: Any, facts: Facts) -> None:
    """Bytes of each type, a bar for each database."""
    axes.set_title("Databases and types")
    databases = facts["databases"]
    if not databases:
        _empty(axes, "no keys")
        return
    names = [f"db {d['db']}" if d["db"] is not None else f"pdb {d['pdb']}" for d in databases]
    if "types" not in databases[0]:
        axes.barh(names, [d["keys"] for d in databases], color=_BLUE)
        axes.set_xlabel("keys")
        axes.invert_yaxis()
        return
    kinds = list(dict.fromkeys(kind for d in databases for kind in d["types"]))
    ends = [0] * len(databases)
    for kind, colour in zip(kinds, _TYPE_COLOURS):
        sizes = [d["types"].get(kind, {}).get("size_bytes", 0) for d in databases]
        axes.barh(names, sizes, left=ends, color=colour, label=kind)
        ends = [end + size for end, size in zip(ends, sizes)]
    for row, database in enumerate(databases):
        label = f" {human_count(database['keys'])} keys"
        axes.text(ends[row], row, label, va="center", fontsize=8, color="#444444")
    axes.set_xlim(0, max(ends) * 1.3 or 1)
    axes.invert_yaxis()
    _size_ticks(axes, max(ends) * 1.3)
    axes.set_xlabel("keys and values, before compression")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _draw_expiry(axes: Any, facts: Facts) -> None:
    """How many keys expire when."""
    axes.set_title("Keys that expire")
    sums: dict[str, int] = {}
    for database in facts["databases"]:
        for bucket, count in database["expiry"].items():
            sums[bucket] = sums.get(bucket, 0) + count
    if not any(sums.values()):
        _empty(axes, "no key expires")
        return
    names = ["has expired" if b == "expired" else "later" if b == "later" else f"within {b}" for b in sums]
    axes.bar(names, list(sums.values()), 0.6, color=[_GREY, *[_BLUE] * (len(sums) - 1)])
    for place, count in enumerate(sums.values()):
        axes.text(place, count, human_count(count), ha="center", va="bottom", fontsize=8, color="#444444")
    axes.set_ylabel("keys")
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="y", alpha=0.3)


def _size_ticks(axes: Any, most_bytes: float) -> None:
    """Put ticks at multiples of a power of two, which human_size shows as round figures."""
    step = 1
    while most_bytes / step > _TICKS_MAX:
        step *= 2
    places = list(range(0, int(most_bytes) + 1, step))
    axes.set_xticks(places, [human_size(place) for place in places], fontsize=8)


def _power_ticks(axes: Any, facts: Facts) -> None:
    """Label the bars of powers of two."""
    last = _last_power(facts)
    places = list(range(0, last + 1, 1 if last <= 14 else 2))
    labels = [human_size(1 << bits).replace(".0", "").replace(" ", "\n") for bits in places]
    axes.set_xticks(places, labels, fontsize=7)


def _last_power(facts: Facts) -> int:
    rows = [row for name in ("key_sizes", "value_sizes") for row in facts[name]["histogram"]]
    return max((high.bit_length() for _, high, _ in rows), default=1)
