"""HTTP with an etcd: connections that stay, logins and files, and whatever answers instead."""

from __future__ import annotations

import gc
import json
import ssl
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import h11
import pytest
import trio

from pymcd.etcdurl import decode_etcd_url
from pymcd.exits import ConfigError
from pymcd.replication.etcd import REQUESTS_MAX, Member, Request
from pymcd.server import process
from pymcd.server.etcd import IDLE_MAX, Access, EtcdCourier

from ..interpreters import of_cpython
from ..replication.etcds import Etcd
from .authority import HOST, Authority, shared_authority
from .helpers import ask
from .test_pair import pair, role, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PATIENCE_S = 60
RANGE = "/v3/kv/range"


class Gateway:
    """An etcd's HTTP, as far as a courier needs it, at a port of the loopback."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.accepted = 0
        self.headers: list[dict[bytes, bytes]] = []
        self.closes = False  #: after each answer, without a word of it before
        self.hold: trio.Event | None = None  #: nothing is answered before
        self.port = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.accepted += 1
        http = h11.Connection(h11.SERVER)
        body = b""
        request: Any = None
        async with stream:
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(bytes(await stream.receive_some(4096)))
                elif isinstance(event, h11.Request):
                    request, body = event, b""
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    if self.hold is not None:
                        await self.hold.wait()
                    headers = dict(request.headers)
                    self.headers.append(headers)
                    status, answer = self.etcd.answer(
                        request.target.decode(), body, headers.get(b"authorization", b"").decode()
                    )
                    response = h11.Response(
                        status_code=status, headers=[("Content-Length", str(len(answer)))]
                    )
                    parts = [response, h11.Data(answer), h11.EndOfMessage()]
                    await stream.send_all(b"".join(http.send(part) or b"" for part in parts))
                    if self.closes:
                        return
                    http.start_next_cycle()
                else:
                    break  # PyPy 8.0.1 does not survive a return here


@asynccontextmanager
async def listening(
    handler: Callable[[trio.abc.Stream], Awaitable[None]], context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Have a handler serve whoever comes; yield the port."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            if context is None:
                await handler(stream)
            else:
                await handler(trio.SSLStream(stream, context, server_side=True))
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield int(listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


@dataclass
class Owner:
    """Who asks, and is told."""

    said: list[Any] = field(default_factory=list)

    def answered(self, request: Request, status: int, body: bytes) -> None:
        self.said.append((status, body))

    def failed(self, request: Request, reason: str) -> None:
        self.said.append(reason)


class Desk:
    """A courier, and who uses it."""

    def __init__(self, courier: EtcdCourier, name: str) -> None:
        self.courier = courier
        self.name = name
        self.owner = Owner()

    def post(self, path: str = RANGE, body: bytes = b'{"key":"eA=="}', token: str = "") -> Request:
        owner: Any = self.owner
        request = Request(owner, Member(self.name), path, body, token, 0.0, "", 0)
        self.courier.post(request)
        return request

    async def ask(self, *args: Any, **more: Any) -> Any:
        """Return what comes of a request."""
        before = len(self.owner.said)
        self.post(*args, **more)
        await until(lambda: len(self.owner.said) > before)
        return self.owner.said[-1]


@asynccontextmanager
async def carrying(port: int, scheme: str = "etcd", host: str = "127.0.0.1", query: str = "",
                   login: str = "") -> AsyncIterator[Desk]:  # fmt: skip
    """Run a courier to one member."""
    url = decode_etcd_url(f"{scheme}://{login}{host}:{port}{query}")
    errors: list[Exception] = []
    courier = EtcdCourier(Access(url), deliver=lambda tell: tell(), on_error=errors.append)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(courier.run)
            yield Desk(courier, url.endpoints[0])
            nursery.cancel_scope.cancel()
    assert errors == []


class TestConnections:
    async def test_one_stays_for_the_next_request(self):
        gateway = Gateway(Etcd())
        async with listening(gateway.serve) as port, carrying(port) as desk:
            for _ in range(5):
                status, body = await desk.ask(token="a.token")
                assert (status, json.loads(body)["header"]["revision"]) == (200, "1")
        assert gateway.accepted == 1
        assert gateway.headers[-1][b"authorization"] == b"a.token"
        assert gateway.headers[-1][b"content-type"] == b"application/json"
        assert gateway.headers[-1][b"host"] == b"127.0.0.1:%d" % port

    async def test_what_is_asked_meanwhile_has_one_of_its_own(self):
        gateway = Gateway(Etcd())
        gateway.hold = trio.Event()
        async with listening(gateway.serve) as port, carrying(port) as desk:
            for _ in range(4):
                desk.post()
            await until(lambda: gateway.accepted == 4)
            gateway.hold.set()
            await until(lambda: len(desk.owner.said) == 4)
            gateway.hold = None
            for _ in range(5):
                await desk.ask()
            assert gateway.accepted == 4
            (idle,) = desk.courier._idle.values()
            assert len(idle) == IDLE_MAX

    async def test_one_that_was_closed_meanwhile_is_made_anew(self):
        gateway = Gateway(Etcd())
        async with listening(gateway.serve) as port, carrying(port) as desk:
            gateway.closes = True
            for number in range(3):
                assert (await desk.ask())[0] == 200
                assert gateway.accepted == number + 1

    async def test_what_is_given_up_is_not_told(self):
        gateway = Gateway(Etcd())
        gateway.hold = trio.Event()
        async with listening(gateway.serve) as port, carrying(port) as desk:
            request = desk.post()
            await until(lambda: gateway.accepted)
            desk.courier.give_up(request)
            await until(lambda: not desk.courier._scopes)
            desk.courier.give_up(request)
            gateway.hold.set()
            await desk.ask()
            assert len(desk.owner.said) == 1

    async def test_what_was_asked_before_it_runs_is_carried_then(self):
        gateway = Gateway(Etcd())
        async with listening(gateway.serve) as port:
            access = Access(decode_etcd_url(f"etcd://127.0.0.1:{port}"))
            courier = EtcdCourier(access, deliver=lambda tell: tell(), on_error=print)
            desk = Desk(courier, access.url.endpoints[0])
            desk.courier.give_up(desk.post())
            desk.post()
            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(courier.run)
                    await until(lambda: desk.owner.said)
                    nursery.cancel_scope.cancel()
            assert len(desk.owner.said) == 1

    @of_cpython("objects die by reference count")
    async def test_nothing_is_left_behind(self):
        """A cycle would stay for ever."""
        gateway = Gateway(Etcd())
        async with listening(gateway.serve) as port, carrying(port) as desk:
            await desk.ask()
            gc.collect()
            gc.disable()
            try:
                for _ in range(20):
                    await desk.ask()
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                ours = [each for each in gc.garbage if "pymcd" in type(each).__module__]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
        assert ours == []


class TestWhatAnswersInstead:
    async def test_nobody(self):
        async with listening(Gateway(Etcd()).serve) as port:
            pass
        async with carrying(port) as desk:
            assert await desk.ask() == "Connection refused"

    async def test_no_such_host(self):
        async with carrying(1, host="nowhere.invalid") as desk:
            said = await desk.ask()
        assert isinstance(said, str)
        assert said

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (b"ERROR\r\n", "does not answer in HTTP: "),
            (b"", "does not answer in HTTP: it closed the connection"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "does not answer in HTTP: "),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n%b" % (300_000 * b"x"),
                "does not answer in HTTP: its answer is too long",
            ),
            (b"\x15\x03\x01\x00\x02\x02\x46", "does not answer in HTTP: "),
        ],
    )  # fmt: skip
    async def test_no_http(self, answer, said):
        async def serve(stream: trio.abc.Stream) -> None:
            await stream.receive_some(4096)
            await stream.send_all(answer)
            await stream.aclose()

        async with listening(serve) as port, carrying(port) as desk:
            assert (await desk.ask()).startswith(said)

    async def test_an_error_is_carried_as_it_is(self):
        etcd = Etcd(users={"u": "p"})
        async with listening(Gateway(etcd).serve) as port, carrying(port) as desk:
            status, body = await desk.ask()
            assert (status, json.loads(body)["error"]) == (400, "etcdserver: user name is empty")


class TestTls:
    def server(self, authority: Authority, *, asks: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.chain_file, authority.key_file)
        if asks:
            context.load_verify_locations(authority.ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    async def test_it_is_spoken(self):
        authority = shared_authority()
        gateway = Gateway(Etcd())
        query = f"?cacert={authority.ca_file}"
        async with (
            listening(gateway.serve, self.server(authority)) as port,
            carrying(port, "etcds", HOST, query) as desk,
        ):
            for _ in range(2):
                assert (await desk.ask())[0] == 200
        assert gateway.accepted == 1

    async def test_it_asks_for_a_certificate(self):
        authority = shared_authority()
        context = self.server(authority, asks=True)
        query = f"?cacert={authority.ca_file}"
        mine = f"&cert={authority.chain_file}&key={authority.key_file}"
        async with listening(Gateway(Etcd()).serve, context) as port:
            async with carrying(port, "etcds", HOST, query) as desk:
                assert isinstance(await desk.ask(), str)
            async with carrying(port, "etcds", HOST, query + mine) as desk:
                assert (await desk.ask())[0] == 200

    @pytest.mark.parametrize("wrong", ["authority", "name"])
    async def test_who_is_not_to_be_trusted(self, wrong):
        authority = shared_authority()
        query = f"?cacert={authority.ca_file}" if wrong == "name" else ""
        host = HOST if wrong == "authority" else "127.0.0.1"
        async with (
            listening(Gateway(Etcd()).serve, self.server(authority)) as port,
            carrying(port, "etcds", host, query) as desk,
        ):
            assert "certificate verify failed" in await desk.ask()

    async def test_who_does_not_speak_it(self):
        async with (
            listening(Gateway(Etcd()).serve) as port,
            carrying(port, "etcds", HOST, "") as desk,
        ):
            assert isinstance(await desk.ask(), str)


class TestFiles:
    def test_the_password(self, tmp_path):
        path = tmp_path / "password"
        url = decode_etcd_url(f"etcd://u@h?password-file={path}")
        with pytest.raises(ConfigError) as caught:
            Access(url)
        assert caught.value.message == (
            f"ERROR: --witness: cannot use {path}: No such file or directory"
        )
        for content, reason in ((b"", "it is empty"), (b"\xff\n", "it is no text")):
            path.write_bytes(content)
            with pytest.raises(ConfigError, match=reason):
                Access(url)
        path.write_text("open sesame\nmore\n")
        access = Access(url)
        assert access.login == ("u", "open sesame")
        path.write_text("another")
        assert access.refresh() == ""
        assert access.login == ("u", "another")
        path.unlink()
        assert "No such file" in access.refresh()
        assert access.login == ("u", "another")

    def test_in_the_url(self):
        assert Access(decode_etcd_url("etcd://u:p@h")).login == ("u", "p")
        assert Access(decode_etcd_url("etcd://h")).login is None

    @pytest.mark.parametrize("name", ["cacert", "cert", "key"])
    def test_certificates(self, tmp_path, name):
        authority = shared_authority()
        files = {
            "cacert": authority.ca_file,
            "cert": authority.chain_file,
            "key": authority.key_file,
        }
        spoilt = tmp_path / "spoilt.pem"
        spoilt.write_text("nothing")
        for path in (tmp_path / "missing.pem", spoilt):
            query = "&".join(f"{each}={value}" for each, value in {**files, name: path}.items())
            with pytest.raises(ConfigError, match="ERROR: --witness: cannot use "):
                Access(decode_etcd_url(f"etcds://h?{query}"))


def test_h11_is_an_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "pymcd.server.etcd", raising=False)
    monkeypatch.setitem(sys.modules, "h11", None)
    with pytest.raises(ConfigError) as caught:
        process._import_with_h11(".etcd", "--witness etcd://", "etcd")
    assert caught.value.message == (
        "ERROR: --witness etcd:// needs h11: install it, or pymcd with its extra (pymcd[etcd])."
    )


def test_it_counts_as_descriptors():
    access = Access(decode_etcd_url("etcd://a,b,c"))
    assert access.connections_max == 3 * (REQUESTS_MAX + IDLE_MAX)


class TestServers:
    """Two whole servers and an etcd."""

    async def test_its_files_are_read_again(self, tmp_path):
        path = tmp_path / "password"
        path.write_text("wrong")
        gateway = Gateway(Etcd(users={"u": "right"}))
        async with (
            listening(gateway.serve) as port,
            pair(witness=f"etcd://u@127.0.0.1:{port}?password-file={path}") as (a, b),
        ):
            await until(lambda: role(a) in ("coordinator", "follower"))
            path.unlink()
            a.reload()
            await until(lambda: any("what is in use stays" in line for line in a.memory.lines))
            path.write_text("right")
            for server in (a, b):
                server.reload()
            await until(
                lambda: all(
                    server._etcd is not None and server._etcd.login == ("u", "right")
                    for server in (a, b)
                )
            )

    async def test_its_vote(self):
        gateway = Gateway(Etcd())
        async with (
            listening(gateway.serve) as port,
            pair(witness=f"etcd://127.0.0.1:{port}/test") as (a, b),
        ):
            await until(lambda: {role(a), role(b)} == {"coordinator", "follower"})

            def rows(server: Any) -> dict[str, Any]:
                return dict(server.peering.node.rows())

            await until(lambda: rows(a)["witness_link"] == "up" == rows(b)["witness_link"])
            assert await ask(await b.connect(), b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
            assert gateway.etcd.get("/test/pymcd")["cluster"] == "pymcd"
