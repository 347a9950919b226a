"""The requests of `conformance.sessions.users`, as a Django application answers them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from django.http import HttpRequest, JsonResponse
from django.urls import path

if TYPE_CHECKING:
    from collections.abc import Callable


def _answered(act: Callable[[HttpRequest], None]) -> Callable[[HttpRequest], JsonResponse]:
    def view(request: HttpRequest) -> JsonResponse:
        fresh = "n" not in request.session
        act(request)
        return JsonResponse(
            {
                "id": request.session.session_key or "",
                "fresh": fresh,
                "n": request.session.get("n", 0),
                "worker": str(os.getpid()),
            }
        )

    return view


def _count(request: HttpRequest) -> None:
    n = request.session.get("n", 0)
    time.sleep(int(request.GET.get("wait_ms", 0)) / 1000)
    request.session["n"] = n + 1


def _read(request: HttpRequest) -> None:
    """Change nothing."""


def _put(request: HttpRequest) -> None:
    request.session["data"] = "x" * int(request.GET["bytes"])


def _rotate(request: HttpRequest) -> None:
    request.session.cycle_key()


def _logout(request: HttpRequest) -> None:
    request.session.flush()


urlpatterns = [
    path("count", _answered(_count)),
    path("read", _answered(_read)),
    path("put", _answered(_put)),
    path("rotate", _answered(_rotate)),
    path("logout", _answered(_logout)),
]
