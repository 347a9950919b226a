"""An etcd in small: what its JSON gateway answers, and couriers in a world without time.

`Etcd` knows the two calls that a register makes, logins, and how a real one refuses them. It has as
many members as are asked for, which agree at once; one that is down, frozen or cut off from a node
is so for the couriers.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymcd.replication.etcd import Request

MEMBERS: Final = ("e1:2379", "e2:2379", "e3:2379")
#: Where `Group` has its etcd.
URL: Final = f"etcd://{','.join(MEMBERS)}"
KEY: Final = "/pymcd/pymcd"


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass
class Etcd:
    """All members of one etcd."""

    cluster_id: int = 14841639068965178418
    revision: int = 1
    keys: dict[str, tuple[bytes, int]] = field(default_factory=dict)  #: value, and its revision
    users: dict[str, str] = field(default_factory=dict)  #: with their passwords; none: no logins
    readers: set[str] = field(default_factory=set)  #: who may not write
    tokens: dict[str, str] = field(default_factory=dict)  #: of whom
    #: Called first; what it returns is the answer.
    fault: Callable[[str, dict[str, Any]], tuple[int, bytes] | None] = lambda path, said: None
    asked: list[str] = field(default_factory=list)  #: paths

    # -- what a test looks at or changes -------------------------------------------------------

    def get(self, key: str = KEY) -> dict[str, Any]:
        """Return what the key says."""
        said: dict[str, Any] = json.loads(self.keys[key][0])
        return said

    def put(self, value: bytes, key: str = KEY) -> None:
        self.revision += 1
        self.keys[key] = (value, self.revision)

    def delete(self, key: str = KEY) -> None:
        self.revision += 1
        del self.keys[key]

    @staticmethod
    def compare(wanted: int, found: int) -> bool:
        return wanted == found

    # -- the gateway ---------------------------------------------------------------------------

    def answer(self, path: str, body: bytes, token: str = "") -> tuple[int, bytes]:
        """Return status and body."""
        self.asked.append(path)
        said = json.loads(body)
        if (answer := self.fault(path, said)) is not None:
            return answer
        if path == "/v3/auth/authenticate":
            return self._log_in(said)
        if self.users and not token:
            return error_of(3, "etcdserver: user name is empty", 400)
        if self.users and token not in self.tokens:
            return error_of(16, "etcdserver: invalid auth token", 401)
        if path == "/v3/kv/txn" and self.tokens.get(token) in self.readers:
            return error_of(7, "etcdserver: permission denied", 403)
        answers = {"/v3/kv/range": self._range, "/v3/kv/txn": self._transact}
        if path not in answers:
            return 404, b"Not Found"
        return 200, json.dumps({"header": self._header(), **answers[path](said)}).encode()

    def _header(self) -> dict[str, str]:
        return {"cluster_id": str(self.cluster_id), "revision": str(self.revision)}

    def _log_in(self, said: dict[str, Any]) -> tuple[int, bytes]:
        if not self.users:
            return error_of(9, "etcdserver: authentication is not enabled", 400)
        if self.users.get(said["name"]) != said["password"]:
            reason = "etcdserver: authentication failed, invalid user ID or password"
            return error_of(3, reason, 400)
        token = f"token.{len(self.tokens)}"
        self.tokens[token] = said["name"]
        return 200, json.dumps({"header": self._header(), "token": token}).encode()

    def _range(self, said: dict[str, Any]) -> dict[str, Any]:
        assert not said.get("serializable")
        key = base64.b64decode(said["key"]).decode()
        if key not in self.keys:
            return {}
        value, revision = self.keys[key]
        found = {"key": said["key"], "mod_revision": str(revision), "value": text_of(value)}
        return {"kvs": [found], "count": "1"}

    def _transact(self, said: dict[str, Any]) -> dict[str, Any]:
        (compare,) = said["compare"]
        assert (compare["target"], compare["result"]) == ("MOD", "EQUAL")
        key = base64.b64decode(compare["key"]).decode()
        _, revision = self.keys.get(key, (b"", 0))
        if not self.compare(int(compare["mod_revision"]), revision):
            (failure,) = said["failure"]
            return {"responses": [{"response_range": self._range(failure["request_range"])}]}
        (success,) = said["success"]
        put = success["request_put"]
        assert put["key"] == compare["key"]
        self.put(base64.b64decode(put["value"]), key)
        header = self._header()
        return {"header": header, "succeeded": True, "responses": [{"response_put": {}}]}


def error_of(code: int, message: str, status: int = 503) -> tuple[int, bytes]:
    """Return what a member answers that cannot do something."""
    return status, json.dumps({"error": message, "code": code, "message": message}).encode()


class Courier:
    """Carries what one node asks, without time passing."""

    def __init__(self, etcd: Etcd, login: tuple[str, str] | None = None) -> None:
        self.etcd = etcd
        self.login = login
        self.requests: list[Request] = []  #: under way
        self.given_up: list[Request] = []
        self.down: set[str] = set()  #: members whose port is closed
        self.silent: set[str] = set()  #: members that answer nothing, nor is anything lost
        self.deaf = False  #: what is asked arrives, and no answer comes back

    def post(self, request: Request) -> None:
        self.requests.append(request)

    def give_up(self, request: Request) -> None:
        self.given_up.append(request)
        if request in self.requests:
            self.requests.remove(request)

    def carry(self) -> bool:
        """Have all answered that can be; False: there is nothing."""
        busy = False
        for request in list(self.requests):
            name = request.member.name
            if name in self.silent or request not in self.requests:
                continue
            busy = True
            self.requests.remove(request)
            if name in self.down:
                request.owner.failed(request, "Connection refused")
            else:
                answer = self.etcd.answer(request.path, request.body, request.token)
                if not self.deaf:
                    request.owner.answered(request, *answer)
        return busy


class EtcdHost:
    """An etcd in the place of a witness, with the words of `helpers.WitnessHost`."""

    name = "etcd"

    def __init__(self) -> None:
        self.etcd = Etcd()
        self.couriers: dict[str, Courier] = {}
        self.lines: list[str] = []

    def courier_of(self, name: str) -> Courier:
        """Return that of a node that starts."""
        before = self.couriers.get(name)
        courier = self.couriers[name] = Courier(self.etcd)
        if before is not None:
            courier.down, courier.silent, courier.deaf = before.down, before.silent, before.deaf
        return courier

    def part(self, name: str, *, deaf: bool = False) -> None:
        """Let nothing pass between a node and all members; `deaf`: what it says does."""
        courier = self.couriers[name]
        courier.deaf = deaf
        if not deaf:
            courier.silent.update(MEMBERS)

    def meet(self, name: str) -> None:
        """Undo that."""
        self.couriers[name].silent.clear()
        self.couriers[name].deaf = False

    def freeze(self) -> None:
        """Have no member answer."""
        for name in self.couriers:
            self.part(name)

    def stop(self) -> None:
        """Have no member there."""
        for courier in self.couriers.values():
            courier.down.update(MEMBERS)

    def start(self, *, remembers: bool = False) -> None:
        """Have all members there, with what they knew or without the key."""
        if not remembers:
            self.etcd.delete()
        for courier in self.couriers.values():
            courier.down.clear()
