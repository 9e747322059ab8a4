"""Putting a repaired database in the place of the damaged one, so that a crash leaves the one or the other.

    1  the repaired database is complete in DIR/repair.tmp; files that are new there have numbers that no file
       of DIR has, and the file FIRST says from which number on
    2  whatever DIR holds and the new manifest does not name gets a second name in DIR/lost/N
    3  the new files get their names in DIR
    4  MANIFEST is replaced: this is the moment
    5  what is only in DIR/lost/N is removed from DIR, and DIR/repair.tmp goes

Broken off before 4, the old database is as it was, but for some files that nobody names; after 4, the new one
is there, and the old files are swept by the next opening. The next repair begins by taking away what one that
was broken off has left (`clear`). Into another folder it is simpler: that is renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import os

from lamina.engine.checkpoint import link_or_copy
from lamina.engine.errors import EngineError
from lamina.engine.filenames import LOCK, LOST_FOLDER, MANIFEST, is_temporary, parse_name, segment_name
from lamina.engine.filesystem import FileSystem, read_file, sync_ancestors, write_all
from lamina.engine.manifest import Manifest, read_manifest, write_manifest
from lamina.engine.recovery import list_files

_FIRST = "FIRST"


def begin(fs: FileSystem, work: str, first_number: int) -> None:
    """Make the folder in which the repaired database is built. Errors: OSError."""
    fs.make_directory(work)
    file = fs.create(os.path.join(work, _FIRST))
    try:
        write_all(file, b"%d\n" % first_number)
        file.sync()
    finally:
        file.close()
    fs.sync_directory(work)
    sync_ancestors(fs, work)


def clear(fs: FileSystem, directory: str, work: str) -> None:
    """Take away what a repair that was broken off has left. Errors: OSError."""
    if not fs.exists(work):
        return
    named = _named(fs, directory)
    first = _first_number(fs, work)
    for name in list_files(fs, work) if first else []:
        parsed = parse_name(name)
        path = os.path.join(directory, name)
        if parsed is None or parsed[1] < first or name in named or not fs.exists(path):
            continue
        # Had the number been given to another file since, it would not be the same.
        if _is_log_in_use(fs, directory, parsed) or read_file(fs, path) != read_file(fs, f"{work}/{name}"):
            continue
        fs.remove(path)
    fs.sync_directory(directory)
    remove_work(fs, work)


def remove_work(fs: FileSystem, work: str) -> None:
    """Remove the folder and what is in it; the file FIRST last. Errors: OSError."""
    names = list_files(fs, work)
    for name in sorted(names, key=lambda name: name == _FIRST):
        fs.remove(os.path.join(work, name))
    fs.remove_directory(work)


def _first_number(fs: FileSystem, work: str) -> int:
    try:
        return int(read_file(fs, os.path.join(work, _FIRST)))
    except (FileNotFoundError, ValueError):
        return 0  # it had not come far enough to put anything elsewhere


def _named(fs: FileSystem, directory: str) -> set[str]:
    try:
        return names_of(read_manifest(fs, directory))
    except (OSError, EngineError):
        return set()


def _is_log_in_use(fs: FileSystem, directory: str, parsed: tuple[str, int]) -> bool:
    if parsed[0] != "wal":
        return False
    try:
        return parsed[1] >= read_manifest(fs, directory).wal_first
    except (OSError, EngineError):
        return False


def names_of(manifest: Manifest) -> set[str]:
    """Return the names of the segments that a manifest names."""
    return {segment_name(s.segment) for runs in manifest.levels for run in runs for s in run.slices}


def kept_names(fs: FileSystem, directory: str, manifest: Manifest) -> list[str]:
    """Return the files of a sound, closed database, but for the manifest and the lock."""
    logs = [
        name
        for name in list_files(fs, directory)
        if (parsed := parse_name(name)) and parsed[0] == "wal" and parsed[1] >= manifest.wal_first
    ]
    return [*sorted(names_of(manifest)), *logs]


def put_in_place(fs: FileSystem, work: str, directory: str) -> str:
    """Make the database in `work` that in `directory`; returns the folder of what was replaced.

    Errors: OSError, after which the old database is still there, or the new one already.
    """
    manifest = read_manifest(fs, work)
    names = kept_names(fs, work, manifest)
    old = [
        name
        for name in list_files(fs, directory)
        if (parse_name(name) or is_temporary(name) or name == MANIFEST) and name not in names
    ]
    lost = _fresh_folder(fs, os.path.join(directory, LOST_FOLDER))
    for name in old:
        link_or_copy(fs, os.path.join(directory, name), os.path.join(lost, name))
    fs.sync_directory(lost)
    sync_ancestors(fs, lost)
    for name in names:
        if not fs.exists(os.path.join(directory, name)):
            link_or_copy(fs, os.path.join(work, name), os.path.join(directory, name))
    fs.sync_directory(directory)
    write_manifest(fs, directory, manifest)
    for name in old:
        if name != MANIFEST:
            with contextlib.suppress(FileNotFoundError):
                fs.remove(os.path.join(directory, name))
    fs.sync_directory(directory)
    remove_work(fs, work)
    return lost


def _fresh_folder(fs: FileSystem, parent: str) -> str:
    number = 1
    while fs.exists(folder := os.path.join(parent, str(number))):
        number += 1
    fs.make_directory(folder)
    return folder


def rename_to(fs: FileSystem, work: str, target: str) -> None:
    """Give the database in `work` its name, `target`, which is free or an empty folder. Errors: OSError."""
    for name in (_FIRST, LOCK):
        with contextlib.suppress(FileNotFoundError):
            fs.remove(os.path.join(work, name))
    fs.sync_directory(work)
    fs.replace(work, target)
    sync_ancestors(fs, target)
