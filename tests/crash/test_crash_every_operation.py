"""The process is killed, or the power fails, at every single file operation of a history, and while that is
being recovered from.

The file system in memory is copied as it is before each operation: that is what a kill there leaves. A kill
in the middle of a write leaves a part of its bytes as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

import lamina.engine as engine
from harness.fault_filesystem import FaultFileSystem, Operation
from harness.history import COPY, PATH, SMALL, Run, State, assert_equal, recover, tell
from harness.memory_filesystem import MemoryFileSystem

SYNCS = ("always", "everysec", "no")
SETTINGS = [(counted, sync) for counted in (True, False) for sync in SYNCS]
SAMPLED_EVERY = 32
"""The normal run takes every so many operations, others for each setting; the slow one takes all."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The disk before an operation, and what must be there after a crash."""

    operation: Operation
    disk: MemoryFileSystem
    states: list[State]
    """From the one that no power loss may go behind to the one that the write under way leads to."""
    done: int
    """Index in `states` of the last one that was acknowledged."""
    copied: State | None

    def __str__(self) -> str:
        return f"at {self.operation}"

    @property
    def acknowledged(self) -> list[State]:
        """The states that a killed process may leave."""
        return self.states[self.done :]


def moments_of(*, counted: bool, sync: str) -> list[Moment]:
    """Run the history and return the moment before each of its operations."""
    disk = MemoryFileSystem()
    moments: list[Moment] = []
    runs: list[Run] = []

    def remember(operation: Operation) -> None:
        states, durable, done, copied = [State()], 0, 0, None
        if runs:
            run = runs[0]
            states, durable, done, copied = run.states, run.durable, run.done, run.copied
        moments.append(
            Moment(operation, disk.process_crash_clone(), states[durable:], done - durable, copied)
        )

    runs.append(Run(FaultFileSystem(disk, remember), counted=counted, sync=sync))
    tell(runs[0])
    return moments


def parts_of_write(moment: Moment, following: Moment) -> Iterator[dict[str, bytes]]:
    """Yield what a kill in the middle of a write may have let through of it."""
    path = moment.operation.path
    before, after = moment.disk.files()[path], following.disk.files()[path]
    data = after[len(before) :]
    for size in sorted({1, 11, 12, 13, len(data) // 2, len(data) - 1}):
        if 0 < size < len(data):
            yield {path: data[:size]}


@pytest.fixture(
    params=[
        pytest.param(setting, id=f"{'counted' if setting[0] else 'uncounted'}-{setting[1]}")
        for setting in SETTINGS
    ]
)
def setting(request: pytest.FixtureRequest) -> tuple[bool, str]:
    return request.param  # type: ignore[no-any-return]


def sample(moments: list[Moment], setting: tuple[bool, str], every: int) -> list[int]:
    """Return the indexes of every so many moments, and of all at which names change."""
    offset = SETTINGS.index(setting) * 5 % every
    return [
        i
        for i, moment in enumerate(moments)
        if (i + offset) % every == 0
        or (moment.operation.kind in ("replace", "truncate") and i % 5 == offset % 5)
    ]


def check_kills(moments: list[Moment], indexes: list[int], *, is_every: bool = True) -> None:
    """Recover from a kill at each of these moments; if `moments` are all there are, in mid-write as well."""
    for i in indexes:
        moment = moments[i]
        flights: list[dict[str, bytes]] = [{}]
        if is_every and moment.operation.kind == "write" and i + 1 < len(moments):
            flights += parts_of_write(moment, moments[i + 1])
        for in_flight in flights:
            with told(f"{moment}, {[len(part) for part in in_flight.values()]} bytes of it written"):
                recover(moment.disk.process_crash_clone(in_flight=in_flight), moment.acknowledged)


def check_power_losses(moments: list[Moment], indexes: list[int], seeds: int) -> None:
    for i in indexes:
        moment = moments[i]
        for seed in range(i, i + seeds):
            percent = (50, 0, 95, 20)[seed % 4]
            with told(f"{moment}, seed {seed}, {percent} %"):
                recover(moment.disk.power_loss_clone(seed, percent), moment.states)


class told:  # noqa: N801 - reads as a word
    """Add to whatever is raised where that was."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            error.add_note(self.where)


def test_the_history_goes_through_everything() -> None:
    moments = moments_of(counted=True, sync="always")
    kinds = {moment.operation.kind for moment in moments}
    assert kinds >= set(
        "create open_append open_read write sync replace remove link sync_directory lock".split()
    )
    assert len(moments) > 500
    run = Run(MemoryFileSystem(), counted=True, sync="always")
    tell(run)
    assert len(run.states) > 60
    assert run.durable == run.done == len(run.states) - 1


def test_kill(setting: tuple[bool, str]) -> None:
    moments = moments_of(counted=setting[0], sync=setting[1])
    check_kills(moments, sample(moments, setting, SAMPLED_EVERY))


def test_power_loss(setting: tuple[bool, str]) -> None:
    moments = moments_of(counted=setting[0], sync=setting[1])
    check_power_losses(moments, sample(moments, setting, SAMPLED_EVERY), seeds=2)


@pytest.mark.slow
def test_kill_everywhere(setting: tuple[bool, str]) -> None:
    moments = moments_of(counted=setting[0], sync=setting[1])
    check_kills(moments, list(range(len(moments))))


@pytest.mark.slow
def test_power_loss_everywhere(setting: tuple[bool, str]) -> None:
    moments = moments_of(counted=setting[0], sync=setting[1])
    check_power_losses(moments, list(range(len(moments))), seeds=25)


# -- beside a thread --------------------------------------------------------------------------------


def moments_beside_a_thread(sync: str, every: int) -> list[Moment]:
    """As `moments_of`, with flushes and merges in a thread: what is under way differs from run to run."""
    disk = MemoryFileSystem()
    moments: list[Moment] = []
    runs: list[Run] = []

    def remember(operation: Operation) -> None:
        if not runs or operation.index % every:
            return
        run = runs[0]
        durable, done = run.durable, run.done  # before the copy is made: that has at least these
        clone = disk.process_crash_clone()
        moments.append(Moment(operation, clone, run.states[durable:], done - durable, None))

    runs.append(Run(FaultFileSystem(disk, remember), counted=True, sync=sync, background="thread"))
    tell(runs[0])
    return moments


@pytest.mark.parametrize("sync", SYNCS)
def test_kills_and_power_losses_beside_a_thread(sync: str) -> None:
    moments = moments_beside_a_thread(sync, 31)
    check_kills(moments, list(range(len(moments))), is_every=False)
    check_power_losses(moments, list(range(len(moments))), seeds=2)


@pytest.mark.slow
@pytest.mark.parametrize("sync", SYNCS)
@pytest.mark.parametrize("turn", range(5))
def test_kills_and_power_losses_beside_a_thread_everywhere(sync: str, turn: int) -> None:
    moments = moments_beside_a_thread(sync, 2)
    check_kills(moments, list(range(len(moments))), is_every=False)
    check_power_losses(moments, list(range(len(moments))), seeds=4)


# -- crashes while recovering -----------------------------------------------------------------------


def crashes_while_opening(disk: MemoryFileSystem, **options: Any) -> list[MemoryFileSystem]:
    """Open a database and return the disk before each operation of that."""
    disks: list[MemoryFileSystem] = []
    faults = FaultFileSystem(disk, lambda operation: disks.append(disk.process_crash_clone()))
    engine.open(PATH, fs=faults, **SMALL | options).close()
    return disks


def crash(disk: MemoryFileSystem, random: Random) -> MemoryFileSystem:
    if random.random() < 0.5:
        return disk.process_crash_clone()
    return disk.power_loss_clone(random.randrange(1 << 30), random.choice((0, 20, 50, 90)))


def check_recoveries(moments: list[Moment], indexes: list[int], random: Random, every: int) -> None:
    for i in indexes:
        moment = moments[i]
        is_power_loss = random.random() < 0.7
        seed = random.randrange(1 << 30)
        first = moment.disk.power_loss_clone(seed, 40) if is_power_loss else moment.disk.process_crash_clone()
        states = moment.states
        with told(f"{moment}, power loss {is_power_loss}, seed {seed}"):
            for second in crashes_while_opening(first)[random.randrange(every) :: every]:
                with told("then while opening"):
                    again = crashes_while_opening(crash(second, random))
                    for third in random.sample(again, min(len(again), 2)):
                        recover(crash(third, random), states)


def test_crash_while_recovering(setting: tuple[bool, str]) -> None:
    moments = moments_of(counted=setting[0], sync=setting[1])
    indexes = list(range(SETTINGS.index(setting) * 20, len(moments), 260))
    check_recoveries(moments, indexes, Random(f"recovery {setting}"), every=9)


@pytest.mark.slow
def test_crash_while_recovering_everywhere(setting: tuple[bool, str]) -> None:
    moments = moments_of(counted=setting[0], sync=setting[1])
    check_recoveries(moments, list(range(0, len(moments), 3)), Random(f"all {setting}"), every=1)


# -- checkpoints ------------------------------------------------------------------------------------


def test_a_checkpoint_is_whole_or_no_database(setting: tuple[bool, str]) -> None:
    moments = moments_of(counted=setting[0], sync=setting[1])
    seen = set()
    for i, moment in enumerate(moments):
        if moment.copied is None:
            continue
        if i % 4 and not moment.operation.path.startswith(COPY):
            continue
        for disk in (moment.disk.process_crash_clone(), moment.disk.power_loss_clone(i)):
            is_there = disk.exists(f"{COPY}/MANIFEST")
            seen.add(is_there)
            with told(str(moment)):
                if is_there:
                    with engine.open(COPY, fs=disk, **SMALL) as copy:
                        assert_equal(dict(copy.scan()), moment.copied)
    assert seen == {True, False}
