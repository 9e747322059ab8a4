"""A small Django site without a database: a view counts visits in the session, another one is cached."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.cache import cache_page

# Before the views: decorators ask for settings. The caches are the test's.
settings.configure(
    SECRET_KEY="of tests",
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    USE_TZ=True,
)

rendered: list[str] = []
"""The paths that `expensive` has been called for, in this process."""


def visit(request: HttpRequest) -> JsonResponse:
    """Count the visits of one visitor."""
    session: Any = request.session
    session["visits"] = session.get("visits", 0) + 1
    session.setdefault("basket", []).append(request.GET.get("item", "nothing"))
    return JsonResponse({"visits": session["visits"], "basket": session["basket"]})


def leave(request: HttpRequest) -> HttpResponse:
    """End the session."""
    session: Any = request.session
    session.flush()
    return HttpResponse("left")


def change_name(request: HttpRequest) -> HttpResponse:
    """Give the session another key, as a login does."""
    session: Any = request.session
    session.cycle_key()
    return HttpResponse("changed")


@cache_page(100)
def expensive(request: HttpRequest) -> HttpResponse:
    """Be called once for each address."""
    rendered.append(request.get_full_path())
    return HttpResponse(f"rendered {len(rendered)}")


urlpatterns = [
    path("visit", visit),
    path("leave", leave),
    path("change-name", change_name),
    path("expensive", expensive),
]
