"""Users notice what their application lost: tried on one that says what it is told to say."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from .users import Crowd, Timing, User, make_users

if TYPE_CHECKING:
    from collections.abc import Iterator

Said = dict[str, object]


class _Application(ThreadingHTTPServer):
    """Answers each request with what is next in `script`; a status alone is an error."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Said | int] = []
        self.asked: list[tuple[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: _Application

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Cookie", "")))
        said = self.server.script.pop(0)
        if isinstance(said, int):
            self.send_error(said)
            return
        self.send_response(200)
        for name in ("Set-Cookie", "X-Stored", "X-Locked"):
            if name in said:
                self.send_header(name, str(said[name]))
        self.end_headers()
        self.wfile.write(json.dumps({"id": "a", "fresh": False, "worker": "w", **said}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def application() -> Iterator[_Application]:
    with _Application() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def user(application: _Application) -> User:
    (one,) = make_users([application.url], 1)
    return one


def counted(n: int, **more: object) -> Said:
    return {"n": n, "fresh": n == 1, **more}


@pytest.mark.parametrize(
    ("script", "lost"),
    [
        ([counted(1), counted(2), counted(3)], []),
        ([counted(1), counted(2), counted(1)], ["session gone, not 2..2"]),
        ([counted(1), counted(2), counted(2)], ["found 1, not 2..2"]),
        ([counted(1), counted(3)], ["found 2, not 1..1"]),
        # After an error either is right, but not more.
        ([counted(1), 500, counted(2)], []),
        ([counted(1), 500, counted(3)], []),
        ([counted(1), 500, counted(4)], ["found 3, not 1..2"]),
        ([counted(1), 500, 500, counted(1)], ["session gone, not 1..3"]),
        # What was not stored may be there, or not.
        ([counted(1), {**counted(2), "X-Stored": "no"}, counted(2)], []),
        ([counted(1), {**counted(2), "X-Stored": "no"}, counted(3)], []),
        ([counted(2, fresh=True)], ["session gone, not 0..0"]),
    ],
)
def test_counts(
    application: _Application, user: User, script: list[Said | int], lost: list[str]
) -> None:
    application.script = list(script)
    for _ in script:
        user.count()
    assert [line.removeprefix("user0 /count: ").split(", at ")[0] for line in user.lost] == lost


def test_a_loss_is_told_once(application: _Application, user: User) -> None:
    application.script = [counted(1), counted(2), counted(1), counted(2), counted(3)]
    for _ in range(5):
        user.count()
    assert len(user.lost) == 1


def test_reading_looks_as_well(application: _Application, user: User) -> None:
    application.script = [counted(1), {"n": 1}, {"n": 0, "fresh": True}]
    user.count()
    user.read()
    assert user.lost == []
    user.read()
    assert len(user.lost) == 1


def test_cookies_are_kept_and_dropped(application: _Application, user: User) -> None:
    application.script = [
        counted(1, **{"Set-Cookie": "S=abc; Path=/"}),
        counted(2),
        {"n": 0, "Set-Cookie": "S=; Max-Age=0"},
        counted(1),
    ]
    user.count()
    user.count()
    user.ask("/logout")
    user.count()
    assert [cookies for _, cookies in application.asked] == ["", "S=abc", "S=abc", ""]


def test_an_ended_session_that_is_back_is_noticed(application: _Application, user: User) -> None:
    application.script = [
        counted(1, **{"Set-Cookie": "S=abc"}),
        {"n": 0},
        {"n": 0, "fresh": True},
        {"n": 1},
    ]
    user.count()
    user.logout()
    assert (user.acknowledged, user.cookies) == (0, {})
    user.look_back()
    assert user.lost == []
    user.look_back()
    assert user.lost == ["user0: an ended session is back with 1"]
    assert application.asked[-1] == ("/read", "S=abc")


@pytest.mark.parametrize("answer", [500, {"n": 0, "X-Stored": "no"}])
def test_an_end_that_nobody_acknowledged_is_none(
    application: _Application, user: User, answer: Said | int
) -> None:
    application.script = [counted(1), answer]
    user.count()
    user.logout()
    assert user.ended == []


def test_an_id_that_stays_is_noticed(application: _Application, user: User) -> None:
    application.script = [counted(1), {"n": 1, "id": "b"}, {"n": 1, "id": "b"}]
    user.count()
    user.rotate()
    assert user.lost == []
    user.rotate()
    assert user.lost == ["user0: the id stayed b"]


def test_an_outage_lasts_until_the_next_answer(user: User) -> None:
    user.timings += [
        Timing(10.0, 0.5, "/", ""),
        Timing(20.0, 1.0, "/", "no"),
        Timing(22.0, 1.0, "/", "no"),
        Timing(24.0, 0.25, "/", ""),
        Timing(30.0, 1.0, "/", "no"),
    ]
    assert user.longest_outage_s() == 4.25
    assert len(user.errors) == 3


def test_a_crowd_tells_what_broke(application: _Application) -> None:
    def broken(_: User) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Crowd(make_users([application.url], 2), each=broken):
        pass
