"""Sorted sets, in memory and on disk, against a dict and `sorted`."""

from __future__ import annotations

from math import inf
from operator import itemgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from harness.local import LocalClient, Servers, check_server
from lamina.server import elements
from lamina.server.encoding import DOUBLE, decode_score, encode_score
from lamina.server.errors import CommandError
from lamina.server.types import zsetranges, zsets
from lamina.server.types.zsetorder import SCORE_SIZE
from lamina.server.types.zsetranges import Members, Ranks, Scores
from lamina.server.types.zsets import ADDED, CHANGED, GT, LT, NX, SAME, UNTOUCHED, XX, ZSet

KEY = b"z"

members = st.one_of(
    st.integers(0, 30).map(lambda n: b"m%02d" % n),
    st.binary(max_size=2),
    st.sampled_from([b"\xff\xff", b"a\0", b"L" * 70]),
)
scores = st.one_of(
    st.integers(-3, 3).map(float),
    st.sampled_from([inf, -inf, 0.0, -0.0, 5e-324, -5e-324, 1.5, 1e300]),
    st.floats(allow_nan=False),
)
positions = st.integers(-40, 40)
limits = st.integers(-1, 12)
bounds = st.tuples(scores, st.booleans())


@given(first=scores, second=scores, member=members)
def test_order_of_encoded_scores(first: float, second: float, member: bytes) -> None:
    one, other = encode_score(first), encode_score(second)
    assert (one < other, one == other) == (first < second, first == second)
    assert decode_score(one + member) == first


def stay_on_disk(patch: pytest.MonkeyPatch) -> None:
    """Let nothing be loaded that is not held already."""
    patch.setattr(elements, "LOADED_AT_ONCE", -1)
    patch.setattr(elements, "LOADED_EVER", -1)


class ZSetMachine(RuleBasedStateMachine):
    """Whatever is done, and wherever the set lies, it answers what a dict answers."""

    @initialize(loads=st.booleans())
    def open(self, loads: bool) -> None:
        self.patch = pytest.MonkeyPatch()
        if not loads:
            stay_on_disk(self.patch)
        self.local: LocalClient = Servers().make()
        self.keyspace = self.local.client.keyspace
        self.model: dict[bytes, float] = {}

    def teardown(self) -> None:
        if hasattr(self, "local"):
            self.local.turn()
            check_server(self.local.server)
            self.local.server.close()
            self.patch.undo()

    @property
    def zset(self) -> ZSet:
        found = self.keyspace.find_typed(KEY, ZSet)
        assert found is not None
        return found

    def ordered(self) -> list[tuple[bytes, float]]:
        return sorted(self.model.items(), key=itemgetter(1, 0))

    def scored(self, keys: list[bytes]) -> list[tuple[bytes, float]]:
        return self.zset.scored(keys)

    # Changes

    @rule(pairs=st.lists(st.tuples(scores, members), min_size=1, max_size=8))
    def add(self, pairs: list[tuple[float, bytes]]) -> None:
        new = {member for _, member in pairs} - set(self.model)
        assert zsets.add(self.keyspace, KEY, pairs)[0] == len(new)
        for score, member in pairs:
            self.model[member] = score

    @rule(pairs=st.lists(st.tuples(scores, members), min_size=150, max_size=200))
    def add_many(self, pairs: list[tuple[float, bytes]]) -> None:
        self.add(pairs)

    @precondition(lambda self: self.model)
    @rule(
        member=members,
        score=scores,
        conditions=st.sampled_from([0, NX, XX, GT, LT, XX | GT, XX | LT]),
        is_increment=st.booleans(),
    )
    def update(self, member: bytes, score: float, conditions: int, is_increment: bool) -> None:
        old = self.model.get(member)
        total = score + old if is_increment and old is not None else score
        if total != total and not conditions & NX:
            with pytest.raises(CommandError):
                zsets.add(self.keyspace, KEY, [(score, member)], conditions, is_increment)
            return
        holds = not conditions & XX if old is None else not conditions & NX
        if old is not None:
            holds = (
                holds and not (conditions & GT and total <= old) and not (conditions & LT and total >= old)
            )
        found = zsets.add(self.keyspace, KEY, [(score, member)], conditions, is_increment)
        if holds:
            assert found == (old is None, old is not None and total != old, total)
            self.model[member] = total
        else:
            assert found == (0, 0, None)

    @precondition(lambda self: self.model)
    @rule(member=members)
    def remove(self, member: bytes) -> None:
        zset = self.zset
        was_there = zset.remove(member)
        assert was_there == (self.model.pop(member, None) is not None)
        if was_there:
            zsets.save_removal(self.keyspace, KEY, zset, b"zrem")

    @precondition(lambda self: self.model)
    @rule(count=st.one_of(st.just(1), st.integers(1, 40)), last=st.booleans())
    def pop(self, count: int, last: bool) -> None:
        expected = self.ordered()[:: -1 if last else 1][:count]
        assert zsets.pop(self.keyspace, KEY, self.zset, count, last=last) == expected
        for member, _ in expected:
            del self.model[member]

    @rule(low=bounds, high=bounds)
    def remove_scores(self, low: tuple[float, bool], high: tuple[float, bool]) -> None:
        inside = self.between(low, high)
        assert zsetranges.remove(self.keyspace, KEY, Scores(low, high), b"x") == len(inside)
        for member, _ in inside:
            del self.model[member]

    @rule(first=positions, last=positions)
    def remove_ranks(self, first: int, last: int) -> None:
        inside = self.ordered()[self.places(first, last)]
        assert zsetranges.remove(self.keyspace, KEY, Ranks(first, last), b"x") == len(inside)
        for member, _ in inside:
            del self.model[member]

    # Where it lies

    @precondition(lambda self: self.model)
    @rule()
    def load(self) -> None:
        if self.zset.elements.held is None:
            self.zset.elements.load()

    @precondition(lambda self: self.model)
    @rule()
    def let_go(self) -> None:
        self.zset.let_go()

    @rule()
    def commit(self) -> None:
        self.local.turn()

    @rule()
    def reload(self) -> None:
        self.local.turn()
        self.local.reload()

    @precondition(lambda self: self.model)
    @rule()
    def copy(self) -> None:
        copy = self.zset.clone(self.keyspace)
        self.keyspace.put(KEY, copy)

    # Questions

    def places(self, first: int, last: int) -> slice:
        size = len(self.model)
        first = max(first + size, 0) if first < 0 else first
        last = last + size if last < 0 else last
        return slice(first, max(last + 1, 0))

    def between(self, low: tuple[float, bool], high: tuple[float, bool]) -> list[tuple[bytes, float]]:
        return [
            (member, score)
            for member, score in self.ordered()
            if (low[0] < score or (low[0] == score and not low[1]))
            and (score < high[0] or (score == high[0] and not high[1]))
        ]

    @precondition(lambda self: self.model)
    @rule(member=members)
    def rank(self, member: bytes) -> None:
        zset = self.zset
        assert zset.score(member) == self.model.get(member)
        rank = next((i for i, (found, _) in enumerate(self.ordered()) if found == member), None)
        assert (zset.rank(member) or (None,))[0] == rank
        backwards = None if rank is None else len(self.model) - 1 - rank
        assert (zset.rank(member, reverse=True) or (None,))[0] == backwards

    @precondition(lambda self: self.model)
    @rule(first=positions, last=positions, reverse=st.booleans())
    def read_ranks(self, first: int, last: int, reverse: bool) -> None:
        expected = self.ordered()[:: -1 if reverse else 1][self.places(first, last)]
        wanted = Ranks(first, last)
        assert self.scored(wanted.keys(self.zset, reverse=reverse)) == expected
        assert wanted.count(self.zset) == len(expected)

    @precondition(lambda self: self.model)
    @rule(low=bounds, high=bounds, reverse=st.booleans(), skip=st.integers(0, 9), limit=limits)
    def read_scores(
        self, low: tuple[float, bool], high: tuple[float, bool], reverse: bool, skip: int, limit: int
    ) -> None:
        inside = self.between(low, high)
        wanted = Scores(low, high)
        assert wanted.count(self.zset) == len(inside)
        expected = inside[:: -1 if reverse else 1][skip:]
        expected = expected if limit < 0 else expected[:limit]
        assert self.scored(wanted.keys(self.zset, reverse=reverse, skip=skip, limit=limit)) == expected

    @precondition(lambda self: self.model)
    @rule(start=members, stop=st.one_of(st.none(), members), reverse=st.booleans(), skip=st.integers(0, 9))
    def read_members(self, start: bytes, stop: bytes | None, reverse: bool, skip: int) -> None:
        wanted = Members(start, stop)
        found = wanted.keys(self.zset, reverse=reverse, skip=skip, limit=5)
        assert len(found) <= 5
        if len(set(self.model.values())) == 1:
            inside = [
                member for member, _ in self.ordered() if start <= member and (stop is None or member < stop)
            ]
            assert wanted.count(self.zset) == len(inside)
            assert [key[SCORE_SIZE:] for key in found] == inside[:: -1 if reverse else 1][skip : skip + 5]
        else:
            # Open, but it is a run of neighbours in any case.
            everything = [member for member, _ in self.ordered()][:: -1 if reverse else 1]
            places = [everything.index(key[SCORE_SIZE:]) for key in found]
            assert places == list(range(places[0], places[0] + len(places))) if places else True
            assert 0 <= wanted.count(self.zset) <= len(self.model)

    @invariant()
    def has_its_size(self) -> None:
        if hasattr(self, "local"):
            found = self.keyspace.find_typed(KEY, ZSet)
            assert (0 if found is None else found.size) == len(self.model)


TestZSets = ZSetMachine.TestCase
TestZSets.settings = settings(max_examples=60, stateful_step_count=30)


def test_many_pending_changes_are_merged(local: LocalClient) -> None:
    """Changes beyond what is merged one by one, and those that take each other back."""
    keyspace = local.client.keyspace
    zsets.add(keyspace, KEY, [(float(n), b"m%04d" % n) for n in range(2000)])
    zset = keyspace.find_typed(KEY, ZSet)
    assert zset is not None
    assert zset.order.between(0, 1) == [encode_score(0.0) + b"m0000"]
    zsets.add(keyspace, KEY, [(float(-n), b"m%04d" % n) for n in range(500)])
    zsets.add(keyspace, KEY, [(float(n), b"m%04d" % n) for n in range(250)])
    assert zset.put(b"new", 0.5) == ADDED
    assert zset.remove(b"new")
    zset.check()
    assert zset.scored(zset.order.between(0, 2)) == [(b"m0499", -499.0), (b"m0498", -498.0)]
    assert zset.rank(b"m0001") == (251, 1.0)
    keyspace.mark(KEY)


def test_outcomes(local: LocalClient) -> None:
    zset = zsets.find_to_add(local.client.keyspace, KEY, 1)
    assert zset.put(b"a", 1.0) == ADDED
    assert zset.put(b"a", 1.0) == SAME
    assert zset.put(b"a", 2.0) == CHANGED
    assert zset.update(b"a", 3.0, NX, False) == (UNTOUCHED, 3.0)
    assert zset.update(b"b", 3.0, XX, False) == (UNTOUCHED, 3.0)
    assert zset.update(b"a", 3.0, 0, True) == (CHANGED, 5.0)
    assert zset.elements.get(b"a") == DOUBLE.pack(5.0)
    local.client.keyspace.put(KEY, zset)


def test_a_queue_on_disk(local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pops from either end, with what comes back below and above them."""
    stay_on_disk(monkeypatch)
    keyspace = local.client.keyspace
    zsets.add(keyspace, KEY, [(float(n), b"m%04d" % n) for n in range(3000)])
    local.turn()
    zset = keyspace.find_typed(KEY, ZSet)
    assert zset is not None
    zset.let_go()
    for n in range(200):
        assert zsets.pop(keyspace, KEY, zset, 1, last=False) == [(b"m%04d" % n, float(n))]
        assert zsets.pop(keyspace, KEY, zset, 1, last=True) == [(b"m%04d" % (2999 - n), 2999.0 - n)]
    assert zset.elements.held is None
    assert zset.put(b"low", -1.0) == ADDED
    assert zset.put(b"high", 9999.0) == ADDED
    assert zset.scored(zset.order.between(0, 2)) == [(b"low", -1.0), (b"m0200", 200.0)]
    assert zset.scored(zset.order.between(0, 2, reverse=True)) == [(b"high", 9999.0), (b"m2799", 2799.0)]
    assert zsetranges.remove(keyspace, KEY, Scores((-inf, False), (500.0, True)), b"x") == 301
    assert zsetranges.remove(keyspace, KEY, Scores((2500.0, False), (inf, False)), b"x") == 301
    assert zset.scored(zset.order.between(0, 1)) == [(b"m0500", 500.0)]
    assert zset.put(b"m0001", 499.5) == ADDED
    assert zset.scored(zset.order.between(0, 1)) == [(b"m0001", 499.5)]
    assert zset.order.count(b"", None) == 2001
    zset.check()
    keyspace.mark(KEY)
