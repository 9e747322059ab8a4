"""Django's cache and sessions, by its own backend and by django-redis, across a kill of the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.cache import caches
from django.test import Client
from django.test.utils import override_settings
from django_redis import get_redis_connection
from programs import django_site
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from harness.programs import wait_until
from harness.servers import Server

Cache = Any
"""Django's caches have no types."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:django")

BACKENDS = {
    "django": "django.core.cache.backends.redis.RedisCache",
    "django-redis": "django_redis.cache.RedisCache",
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cache(steady_server: Server, backend: str) -> Iterator[Cache]:
    """Give the site's default cache, on a server that stays; a second one lies in another database."""
    with caches_at(steady_server, backend):
        yield caches["default"]


@contextmanager
def caches_at(server: Server, backend: str) -> Iterator[None]:
    """Configure three caches: two wait for a server that is away, the strict one tells it at once."""

    def settings_of(name: str, database: int, retry: Retry) -> dict[str, Any]:
        connection: dict[str, Any] = {"retry": retry}
        return {
            "BACKEND": BACKENDS[backend],
            "LOCATION": f"redis://127.0.0.1:{server.port}/{database}",
            "KEY_PREFIX": name,
            "OPTIONS": connection if backend == "django" else {"CONNECTION_POOL_KWARGS": connection},
        }

    patient = Retry(ConstantBackoff(0.05), 1000)
    settings = {
        "default": settings_of("default", 0, patient),
        "second": settings_of("second", 1, patient),
        "strict": settings_of("strict", 2, Retry(NoBackoff(), 0)),
    }
    with override_settings(CACHES=settings):
        try:
            yield
        finally:
            caches.close_all()
            if backend == "django-redis":  # keeps its connections for the life of the process
                for name in settings:
                    get_redis_connection(name).connection_pool.disconnect()


def test_values(cache: Cache) -> None:
    assert cache.get("a") is None
    assert cache.get("a", "else") == "else"
    values: dict[str, Any] = {
        "text": "ä",
        "number": 5,
        "bytes": b"\x00\xff",
        "none": None,
        "things": {"a": [1, (2, 3)]},
        "float": 0.5,
    }
    for key, value in values.items():
        cache.set(key, value)
        assert cache.get(key, "else") == value
    assert cache.get_many([*values, "missing"]) == values
    assert "number" in cache
    assert cache.has_key("none")
    assert cache.delete("text")
    assert not cache.delete("text")
    assert cache.get_or_set("text", lambda: "made") == "made"
    assert cache.get_or_set("text", lambda: "made again") == "made"

    assert cache.add("new", 1)
    assert not cache.add("new", 2)
    assert cache.incr("new") == 2
    assert cache.incr("new", 40) == 42
    assert cache.decr("new", 2) == 40
    assert cache.get("new") == 40
    with pytest.raises(ValueError, match="not found"):
        cache.incr("missing")

    many = {f"many:{number}": number for number in range(500)}
    assert not cache.set_many(many)
    assert cache.get_many(many) == many
    cache.delete_many(list(many)[:400])
    assert len(cache.get_many(many)) == 100
    assert caches["second"].get("many:450") is None
    caches["second"].set("kept", 1)
    cache.clear()
    assert not cache.get_many([*many, *values])
    assert caches["second"].get("kept") == 1


def test_versions_and_timeouts(cache: Cache, steady_server: Server) -> None:
    cache.set("v", "one")
    cache.set("v", "two", version=2)
    assert (cache.get("v"), cache.get("v", version=2)) == ("one", "two")
    assert cache.incr_version("v", version=2) == 3
    assert (cache.get("v", version=2), cache.get("v", version=3)) == (None, "two")
    assert cache.decr_version("v", version=3) == 2
    assert cache.make_key("v") == "default:1:v"

    def left_ms(key: str) -> int:
        with steady_server.client() as client:
            return int(client.call("PTTL", cache.make_key(key)))

    cache.set("short", "x", timeout=0.2 if cache.__module__.startswith("django_redis") else 1)
    cache.set("long", "x", timeout=100)
    cache.set("for-ever", "x", timeout=None)
    cache.set("over", "x", timeout=0)
    cache.set_many({"long-2": 1}, timeout=100)
    assert cache.get("over") is None
    assert 90_000 < left_ms("long") <= 100_000
    assert 90_000 < left_ms("long-2") <= 100_000
    assert 250_000 < left_ms("v") <= 300_000
    assert left_ms("for-ever") == -1
    assert cache.touch("long", 200)
    assert 190_000 < left_ms("long") <= 200_000
    assert cache.touch("long", None)
    assert left_ms("long") == -1
    assert not cache.touch("missing", 10)
    wait_until(lambda: cache.get("short") is None, "the time is over", timeout_s=20)


def test_sessions_and_pages(cache: Cache) -> None:
    visitor, other = Client(), Client()
    assert visitor.get("/visit", {"item": "bread"}).json() == {"visits": 1, "basket": ["bread"]}
    assert visitor.get("/visit", {"item": "milk"}).json() == {"visits": 2, "basket": ["bread", "milk"]}
    assert other.get("/visit").json()["visits"] == 1
    before = visitor.cookies["sessionid"].value
    visitor.get("/change-name")
    assert visitor.cookies["sessionid"].value != before
    assert visitor.get("/visit").json()["visits"] == 3
    # The old key is worth nothing now, nor is one that was made up.
    for key in (before, "0" * 32):
        thief = Client()
        thief.cookies["sessionid"] = key
        assert thief.get("/visit").json()["visits"] == 1
    visitor.get("/leave")
    assert visitor.get("/visit").json()["visits"] == 1
    assert other.get("/visit").json()["visits"] == 2

    rendered_before = len(django_site.rendered)
    pages = {Client().get(f"/expensive?page={page}").content for page in (1, 1, 2, 2, 1)}
    assert len(pages) == len(django_site.rendered) - rendered_before == 2


class Visitors:
    """Threads that visit the site, each in a session of its own, and one that writes to the strict cache."""

    def __init__(self, count: int) -> None:
        self.answered = [0] * count
        """The visits that each visitor was told of last."""
        self.counted = 0
        self.acknowledged: list[int] = []
        """What the strict cache has taken."""
        self.refused = 0
        self.errors: list[str] = []
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(count + 1)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)

    def go_on(self) -> None:
        """Wait until every one of them has come a little further."""
        goal = [count + 5 for count in self.answered]
        writes = len(self.acknowledged) + 50

        def is_reached() -> bool:
            return len(self.acknowledged) >= writes and all(map(int.__ge__, self.answered, goal))

        wait_until(lambda: self.errors or is_reached(), "visits go on")
        assert not self.errors

    def _run(self, number: int) -> None:
        visit = self._visitor(number) if number < len(self.answered) else self._write
        try:
            while not self._is_over.is_set():
                visit()
        except Exception as error:
            self.errors.append(repr(error))
        finally:
            caches.close_all()

    def _visitor(self, number: int) -> Callable[[], None]:
        browser = Client()

        def visit() -> None:
            visits = browser.get("/visit").json()["visits"]
            # One that was interrupted may have been counted, and is repeated: never less, perhaps more.
            if visits <= self.answered[number]:
                self.errors.append(f"{visits} visits after {self.answered[number]}")
            self.answered[number] = visits
            caches["default"].incr("counted")
            with self._lock:
                self.counted += 1

        return visit

    def _write(self) -> None:
        number = len(self.acknowledged) + self.refused
        try:
            caches["strict"].set(f"written-{number}", number, timeout=None)
        except RedisConnectionError:
            self.refused += 1
            time.sleep(0.02)
        else:
            self.acknowledged.append(number)


def test_a_killed_server_loses_no_session(server: Server, backend: str) -> None:
    """Visitors go on through two kills: none loses a visit that was answered, or begins anew."""
    with caches_at(server, backend):
        cache = caches["default"]
        cache.set("counted", 0, timeout=None)
        page = Client().get("/expensive?kept").content
        visitors = Visitors(3)
        visitors.start()
        for _ in range(2):
            visitors.go_on()
            server.kill()
            server.start()
        visitors.go_on()
        visitors.stop()

        assert not visitors.errors
        assert visitors.refused
        assert cache.get("counted") >= visitors.counted
        written = {f"written-{number}": number for number in visitors.acknowledged}
        assert caches["strict"].get_many(written) == written
        assert Client().get("/expensive?kept").content == page
