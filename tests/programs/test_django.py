"""Django: its cache and its sessions, as a site uses them, and a server that is killed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import django
import pytest
import redis
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.test.utils import override_settings
from django.urls import path

from harness.programs import wait_until
from harness.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:django")


def count_visits(request: HttpRequest) -> HttpResponse:
    """Answer how often a visitor has been here: what a session is for."""
    visits = request.session.get("visits", 0) + 1
    request.session["visits"] = visits
    return HttpResponse(str(visits))


def leave(request: HttpRequest) -> HttpResponse:
    """Forget the visitor."""
    request.session.flush()
    return HttpResponse("left")


settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of no site",
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=(path("visits", count_visits), path("leave", leave)),
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    USE_TZ=True,
)
django.setup()


@pytest.fixture
def cache(server: Server) -> Iterator[BaseCache]:
    """Give the cache of a site whose configuration names the server."""
    backend = "django.core.cache.backends.redis.RedisCache"
    location = f"redis://127.0.0.1:{server.port}/1"
    with override_settings(CACHES={"default": {"BACKEND": backend, "LOCATION": location}}):
        yield caches["default"]
        caches["default"].close()


def test_the_cache(cache: BaseCache) -> None:
    assert cache.get("missing", "default") == "default"
    cache.set("anything", {"a": [1, None, "é"]}, timeout=60)
    assert cache.get("anything") == {"a": [1, None, "é"]}
    assert cache.add("once", 1)
    assert not cache.add("once", 2)
    assert cache.get_or_set("once", 3) == 1
    assert cache.get_or_set("made", lambda: "now") == "now"
    assert (cache.incr("once", 41), cache.decr("once")) == (42, 41)
    with pytest.raises(ValueError, match="missing"):
        cache.incr("missing")
    assert cache.set_many({f"many-{n}": n for n in range(100)}, timeout=None) == []
    assert cache.get_many([f"many-{n}" for n in range(101)]) == {f"many-{n}": n for n in range(100)}
    cache.delete_many([f"many-{n}" for n in range(99)])
    assert not cache.has_key("many-0")
    assert "many-99" in cache
    assert cache.delete("many-99")
    assert not cache.delete("many-99")


def test_versions_and_times(cache: BaseCache) -> None:
    cache.set("page", "old", version=1)
    cache.set("page", "new", version=2)
    assert (cache.get("page"), cache.get("page", version=2)) == ("old", "new")
    assert cache.incr_version("page") == 2
    assert (cache.get("page"), cache.get("page", version=2)) == (None, "old")

    cache.set("short", 1, timeout=1)
    cache.set("prolonged", 1, timeout=1)
    assert cache.touch("prolonged", 100)
    assert not cache.touch("missing", 100)
    wait_until(lambda: cache.get("short") is None, "it expires")
    assert cache.get("prolonged") == 1
    cache.set("gone-at-once", 1, timeout=0)
    assert cache.get("gone-at-once") is None
    assert cache.touch("prolonged", None)
    cache.clear()
    assert cache.get("prolonged") is None


def test_sessions_and_what_was_cached_survive_a_kill(server: Server, cache: BaseCache) -> None:
    visitors = [Client() for _ in range(10)]
    for visitor in visitors:
        for visits in (1, 2):
            assert visitor.get("/visits").content == b"%d" % visits
    assert visitors[0].get("/leave").content == b"left"
    acknowledged: list[int] = []
    is_refused = threading.Event()

    def write() -> None:
        while True:
            try:
                cache.set(f"written-{len(acknowledged)}", len(acknowledged), timeout=None)
            except redis.ConnectionError:
                is_refused.set()
                return
            acknowledged.append(len(acknowledged))

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    wait_until(lambda: len(acknowledged) >= 200, "the cache is filled")
    server.kill()
    assert is_refused.wait(20)
    writer.join(20)
    server.start()

    assert cache.get_many([f"written-{n}" for n in acknowledged]) == {f"written-{n}": n for n in acknowledged}
    assert visitors[0].get("/visits").content == b"1"
    for visitor in visitors[1:]:
        assert visitor.get("/visits").content == b"3"
