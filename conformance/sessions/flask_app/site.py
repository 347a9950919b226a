"""The requests of `conformance.sessions.users`, as a Flask application answers them."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, request, session
from flask_session import Session  # type: ignore[import-untyped]

from conformance.sessions.app import ADDRESSES_VARIABLE, LIFETIME_VARIABLE

from . import CONFIGURATION_VARIABLE
from .clients import CONFIGURATIONS

if TYPE_CHECKING:
    from flask_session.base import (  # type: ignore[import-untyped]
        ServerSideSessionInterface,
    )

application = Flask(__name__)
application.config.update(
    CONFIGURATIONS[os.environ[CONFIGURATION_VARIABLE]](os.environ[ADDRESSES_VARIABLE].split(","))
)
application.config["PERMANENT_SESSION_LIFETIME"] = timedelta(
    seconds=int(os.environ[LIFETIME_VARIABLE])
)
Session(application)


def _answer(fresh: bool) -> dict[str, Any]:
    sid = getattr(session, "sid", "")
    return {"id": sid, "fresh": fresh, "n": session.get("n", 0), "worker": str(os.getpid())}


@application.get("/count")
def count() -> dict[str, Any]:
    fresh, n = "n" not in session, session.get("n", 0)
    time.sleep(int(request.args.get("wait_ms", 0)) / 1000)
    session["n"] = n + 1
    return _answer(fresh)


@application.get("/read")
def read() -> dict[str, Any]:
    return _answer("n" not in session)


@application.get("/put")
def put() -> dict[str, Any]:
    session["data"] = "x" * int(request.args["bytes"])
    return _answer("n" not in session)


@application.get("/rotate")
def rotate() -> dict[str, Any]:
    cast("ServerSideSessionInterface", application.session_interface).regenerate(session)
    return _answer("n" not in session)


@application.get("/logout")
def logout() -> dict[str, Any]:
    session.clear()
    return _answer(fresh=True)
