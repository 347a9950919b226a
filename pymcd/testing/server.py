"""`MemcachedServer`: a server for any kind of test, in a thread or in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from ..addresses import join_address
from .calls import Call
from .checks import by_name, flag
from .clocks import monotonic
from .controls import (
    Controls,
    Item,
    KeyT,
    Snapshot,
    good_count,
    good_item,
    good_items,
    good_report,
    good_seconds,
    good_snapshot,
    too_few,
)
from .faults import Fault
from .findings import caller, tell
from .lives import Life
from .plan import ServerPlan, method_taking
from .record import CallRecord
from .requests import Commands
from .sections import register
from .skipping import is_cut_short
from .surroundings import check_system, event_loop, in_thread, why_no_thread
from .wanted import Key, Wanted

if TYPE_CHECKING:
    from .certificates import Certificates
    from .childhost import ChildHost, ChildOfPair
    from .clocks import FakeClock
    from .findings import Finding
    from .host import ThreadHost


#: What is asked of one of a pair when clients of both have been answered.
_AFTER_CLIENTS = frozenset(
    (
        "get",
        "items",
        "stats",
        "put",
        "evict",
        "load",
        "snapshot",
        "restore",
        "calm",
        "flush",
        "forget",
        "advance",
        "script.record.snapshot",
        "script.record.at",
        "script.record.count",
        "script.record.clear",
        "script.take_findings",
    )
)

#: How soon a thread ends that waits for calls nobody wants to hear of any more.
_WAIT_SLICE_S: Final = 0.02
#: In the log of a server that nobody has told to run there.
_IN_CHILD: Final = "{}: this server runs in a process of its own, as with process=True"


class MemcachedServer(Controls, Life):
    """A memcached for tests: the real server, in a thread of this process, on a free port.

    A context manager. Any client can use it, from threads, asyncio, Django or a forked child:

    >>> from pymcd.testing import MemcachedServer
    >>> from pymemcache import Client
    >>> with MemcachedServer() as server:
    ...     client = Client(server.address)
    ...     client.set("greeting", "hello", expire=60)
    ...     client.get("greeting")
    ...     server.advance(61)
    ...     client.get("greeting")
    ...     client.close()
    True
    b'hello'

    Args:
        host: The address to listen on.
        port: Any free one if left out, which is what tests want.
        unix_socket: The path of a Unix socket, to listen there and on no port.
        memory_limit: In megabytes, as `-m`.
        max_item_size: In bytes, as `-I`.
        protocol: "auto", "ascii" or "binary", as `-B`.
        users: Names and passwords, of whom one must log in: by SASL, which speaks the binary
            protocol, or with protocol="ascii" by a first `set`, as memcached's `-Y`.
        tls: True for a certificate made for this test (`tls_ca_file` is its authority; that takes
            the package trustme or the command openssl), or the paths of a certificate chain and its
            key.
        clock: "real"; "frozen", which only `advance` moves; or "host", which is what `time.time`
            shows in this process: with freezegun or time-machine it goes forth and back.
        process: Run in a process of its own; where gevent or eventlet have replaced threads, and
            in a subinterpreter, it does so by itself, and says so in its log.
        options: Further options of the command line, such as `["-M", "-o", "idle_timeout=5"]`.
    """

    @method_taking(ServerPlan)
    def __init__(self, plan: ServerPlan) -> None:
        super().__init__()
        self._plan = plan
        self._host: ThreadHost | ChildHost | ChildOfPair | None = None
        self._in_child = False
        self._port: Any = None  #: reserved
        self._port_number = plan.port
        self._certificates: Certificates | None = None
        self._last_calls = CallRecord()
        self._last_log: list[str] = []
        # Of engines that are no more.
        self._mets: dict[int, int] = {}
        self._findings: list[Finding] = []
        # Of a pair.
        self._partner: MemcachedServer | None = None
        self._clock: FakeClock | None = None
        self._settings: dict[str, Any] = {}

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start; return when a connection will succeed.

        >>> server = MemcachedServer().start()
        >>> server.stop()
        """
        if self._host is not None:
            raise RuntimeError("the server runs already; restart() it, or start another one")
        if self._partner is None:  # else it is the pair that is to be stopped
            self._begin()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        register(self)
        return self

    def _start(self, items: Sequence[tuple[Item, int]] = (), script: Any = None) -> None:
        """Start on the port that is reserved, if one is."""
        check_system()
        plan = self._plan
        if plan.tls is True:
            from .certificates import Certificates

            self._certificates = self._certificates or Certificates(plan.host)
            plan = self._certificates.add_to(plan)
        reason = why_no_thread()
        self._in_child = plan.process or reason is not None
        if self._in_child:
            from .childhost import ChildHost

            child = ChildHost(plan)
            self._host = child
            self._port_number = child.port
            if reason is not None and not plan.process:
                self._ask("server.memory_log.line", _IN_CHILD.format(reason))
            return
        from .engine import Engine
        from .host import ThreadHost
        from .ports import Port

        if plan.unix_socket is None and self._port is None:
            self._port = Port(plan.host, plan.port)
            self._port_number = self._port.number
        engine = Engine(plan, clock=self._clock, port=self._port, script=script, **self._settings)
        if items:
            engine.install(items)
        self._host = ThreadHost(engine)

    def stop(self) -> None:
        """Stop; nothing is left behind. Doing so twice is harmless.

        Connections are closed at once. `calls` stay to be looked at.

        >>> server = MemcachedServer().start()
        >>> server.stop()
        >>> server.stop()
        """
        if self._begun is not None:  # where Python collects garbage it is None
            self._check_outside("stop")
        self._over()
        try:
            self._end()
        finally:
            if self._port is not None:
                self._port.close()
                self._port = None
            if self._certificates is not None:
                self._certificates.remove()
                self._certificates = None

    def _check_outside(self, name: str) -> None:
        host: Any = self._host
        if host is not None and not self._in_child:
            host.check_outside(name)

    def _end(self, *, for_good: bool = True) -> None:
        """Stop, but keep the port; unless it is for good, faults go on in another engine."""
        host, self._host = self._host, None
        if host is None:
            return
        books = host.stop("close_books" if for_good else "now")
        if for_good:
            self._clearings += 1
        if for_good and books is not None:
            self._last_calls, mets, findings, self._last_log = books
            self._mets |= mets
            self._findings += findings

    @by_name
    def restart(self, *, keep_items: bool = False) -> None:
        """Stop and start again at the same address, with or without the items.

        Clients are disconnected; faults, calls and the clock stay as they are.

        >>> with MemcachedServer() as server:
        ...     server.put("a", b"1")
        ...     server.restart(keep_items=True)
        ...     server.get("a").value
        ...     server.restart()
        ...     server.get("a") is None
        b'1'
        True
        """
        flag("keep_items", keep_items)
        host: Any = self._running()
        self._check_outside("restart")
        if self._in_child:
            host.ask("restart", keep_items)
            return
        host.check_process()
        items = host.ask("kept_items") if keep_items else ()
        engine = host.engine
        self._end(for_good=False)
        self._clock = engine.clock
        try:
            self._start(items, engine.script)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        """Start on entry and stop on exit."""
        return self.start()

    def __exit__(self, *failure: object) -> None:
        __tracebackhide__ = True
        self.stop()
        if not any(failure) and not is_cut_short(self):
            tell(self._take_findings())

    async def __aenter__(self) -> Self:
        """Start on entry and stop on exit, as without `async`: that takes a millisecond or two."""
        return self.__enter__()

    async def __aexit__(self, *failure: object) -> None:
        self.__exit__(*failure)

    def __repr__(self) -> str:
        state = "stopped" if self._host is None else f"at {self.url}"
        return f"<MemcachedServer {state}>"

    @property
    def _is_running(self) -> bool:
        return self._host is not None

    def _running(self) -> ThreadHost | ChildHost | ChildOfPair:
        if self._host is None:
            raise RuntimeError(
                "the server is not running; use it inside `with MemcachedServer() as server:`,"
                " or start() it"
            )
        return self._host

    def _ask(self, name: str, *arguments: Any) -> Any:
        host = self._running()
        if self._partner is not None and name in _AFTER_CLIENTS:
            for server in (self._partner, self):
                if server._host is not None:
                    server._host.ask("settle_clients")
        return host.ask(name, *arguments)

    def _fault(self, number: int, remove: str, text: str) -> Fault:
        def ask(name: str) -> int:
            met = self._mets.get(number, 0)
            return met if self._host is None else max(met, self._ask(name, number))

        return Fault(
            lambda: ask(remove), lambda: ask("script.faults.met"), text, self._until_cleared()
        )

    def _armed(self) -> list[str]:
        return [] if self._host is None else super()._armed()

    def _take_findings(self) -> list[Finding]:
        found, self._findings = self._findings, []
        if self._host is not None:
            found += self._ask("script.take_findings")
        return found + self._take_untold()

    # -- where it is ---------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """The address that it listens on.

        >>> MemcachedServer().host
        '127.0.0.1'
        """
        return self._plan.host

    @property
    def port(self) -> int:
        """The port that it listens on, a free one unless it was given.

        >>> with MemcachedServer() as server:
        ...     server.port == server.address[1]
        True
        """
        if self._plan.unix_socket is not None:
            raise RuntimeError("the server listens on a Unix socket: use unix_socket, or url")
        self._running()
        return self._port_number

    @property
    def unix_socket(self) -> str | None:
        """The path of the Unix socket, if it has one.

        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "memcached.sock")
        ...     with MemcachedServer(unix_socket=path) as server:
        ...         client = Client(server.unix_socket)
        ...         client.get("a") is None
        ...         client.close()
        ...     os.path.exists(path)
        True
        False
        """
        return self._plan.socket_path

    @property
    def address(self) -> tuple[str, int]:
        """Host and port.

        >>> with MemcachedServer() as server:
        ...     server.address == (server.host, server.port)
        True
        """
        return self.host, self.port

    @property
    def url(self) -> str:
        """What clients take for a server: "127.0.0.1:41234", or the path of the Unix socket.

        >>> with MemcachedServer() as server:
        ...     server.url == f"127.0.0.1:{server.port}"
        True
        """
        if self._plan.socket_path is not None:
            return self._plan.socket_path
        return join_address(self.host, self.port)

    @property
    def tls_ca_file(self) -> str:
        """With `tls=True`: the file with the authority that clients must trust.

        >>> import ssl
        >>> with MemcachedServer(tls=True) as server:
        ...     context = ssl.create_default_context(cafile=server.tls_ca_file)
        ...     client = Client(server.address, tls_context=context)
        ...     client.version()
        ...     client.close()
        b'1.6.45'
        """
        if self._certificates is None:
            raise RuntimeError(
                "there is no authority: start the server with tls=True;"
                " with files of your own, you know who signed them"
            )
        return self._certificates.ca_file

    # -- what waits for the server ---------------------------------------------------------------

    def advance(self, seconds: float | timedelta) -> None:
        """Let time pass on the server's clock: items expire, and what waits for a time happens.

        Expiry, a delayed flush_all, idle time-outs and delays of faults go by this clock. In
        seconds, or as a `timedelta`.

        >>> with MemcachedServer() as server:
        ...     server.put("a", b"1", ttl=60)
        ...     server.advance(61)
        ...     server.get("a") is None
        True
        """
        self._ask("advance", good_seconds(seconds), caller())

    @by_name
    def put(self, key: str | bytes, value: bytes, *, flags: int = 0, ttl: int = 0) -> None:
        """Store an item; it counts in no statistic, but of a pair as a set. `ttl` in seconds, 0
        for ever.

        >>> with MemcachedServer() as server:
        ...     server.put("a", b"1", ttl=60)
        ...     server.get("a").value
        b'1'
        """
        self._ask("put", *good_item(key, value, flags, ttl))

    def load(self, items: Mapping[KeyT, bytes | Item]) -> None:
        """Store many items, of values or of items with flags and ends; all of them or none.

        What is there already stays, unless its key is among them.

        >>> from pymcd.testing import Item
        >>> with MemcachedServer() as server:
        ...     server.load({"a": b"1", "b": Item(b"b", b"2", flags=5)})
        ...     server.get("b").flags
        ...     with MemcachedServer() as another:
        ...         another.load(server.items())
        ...         len(another)
        5
        2
        """
        self._ask("load", good_items(items))

    def restore(self, snapshot: Snapshot) -> None:
        """Have the items that there were at the snapshot, no others, and the clock as it was.

        Statistics, faults and calls stay. Of a pair both have the items, as stored anew. Of another
        server's snapshot: raises `ValueError`, and changes nothing, if one of its items is too
        large here, and `RuntimeError` if there is no memory for all of them.

        >>> with MemcachedServer() as server:
        ...     server.load({"a": b"1"})
        ...     before = server.snapshot()
        ...     for number in range(3):
        ...         server.restore(before)
        ...         server.put(f"b{number}", b"2")
        ...     sorted(server.items())
        [b'a', b'b2']
        """
        good_snapshot(snapshot)
        if self._partner is not None:
            self._set_clocks(snapshot.advanced_s)
        self._ask("restore", snapshot)

    def reset(self) -> None:
        """Be as after the start: no items, statistics, faults or calls, and the clock set back.

        Clients stay connected. For tests that share a server. Of a pair this is for one server; but
        items and clock are those of both.

        >>> with MemcachedServer() as server:
        ...     server.put("a", b"1")
        ...     server.reset()
        ...     server.items()
        {}
        """
        self._clearings += 1
        if self._partner is None:
            self._ask("reset")
            return
        self._ask("calm")
        self._set_clocks(0.0)
        self._ask("flush")
        self._ask("forget")

    def _set_clocks(self, advanced_s: float) -> None:
        """Have a clock that was advanced by so much in all; of a pair, it is that of both."""
        for server in (self, self._partner):
            if server is not None and server._host is not None:
                server._ask("set_clock", advanced_s)

    def stats(self, name: str = "") -> dict[str, str]:
        """Return a report, as the `stats` command gives it: "", "items", "slabs", "settings" ...

        >>> with MemcachedServer() as server:
        ...     server.stats()["curr_items"]
        '0'
        """
        rows: dict[str, str] = self._ask("stats", good_report(name))
        return rows

    @property
    def log(self) -> list[str]:
        """The last lines of the server's log, also when it has stopped.

        `options=["-vv"]` makes it say more.

        >>> with MemcachedServer() as server:
        ...     pass
        >>> server.log
        []
        """
        return super().log if self._host is not None else self._last_log[:]

    def drop_connections(self) -> int:
        """Close all clients' connections; return how many there were.

        >>> import socket
        >>> with MemcachedServer() as server, socket.create_connection(server.address) as client:
        ...     client.sendall(b"version\\r\\n")
        ...     client.recv(100)
        ...     server.drop_connections()
        ...     client.recv(100)
        b'VERSION 1.6.45\\r\\n'
        1
        b''
        """
        return int(self._ask("drop_connections"))

    def _ask_record(self, name: str, *arguments: Any) -> Any:
        if self._host is None:
            return getattr(self._last_calls, name)(*arguments)
        return super()._ask_record(name, *arguments)

    @by_name
    def wait_for(
        self,
        command: Commands | None = None,
        key: Key | None = None,
        *,
        count: int = 1,
        timeout: float = 5.0,
    ) -> list[Call]:
        """Return the calls of a command, and of a key, as soon as there are `count`.

        Calls of the past count, too. Raises `TimeoutError` after `timeout` seconds.

        >>> import threading
        >>> with MemcachedServer() as server:
        ...     client = Client(server.address)
        ...     worker = threading.Thread(target=client.set, args=("a", "1"))
        ...     worker.start()
        ...     calls = server.wait_for("set", "a")
        ...     worker.join()
        ...     client.close()
        >>> len(calls)
        1
        """
        library = event_loop()
        if library is not None:
            raise RuntimeError(
                f"wait_for() would block the event loop of {library}, and all that runs in it;"
                " write `await server.wait_for_async(...)`"
            )
        good_count(count, timeout)
        return self._wait_for(Wanted.of(command, key), count, timeout)

    async def wait_for_async(
        self,
        command: Commands | None = None,
        key: Key | None = None,
        *,
        count: int = 1,
        timeout: float = 5.0,  # noqa: ASYNC109 - as everywhere else in this package
    ) -> list[Call]:
        """Do as `wait_for` does, in an event loop of asyncio or trio, and so under anyio.

        >>> import asyncio
        >>> async def main():
        ...     async with MemcachedServer() as server:
        ...         reader, writer = await asyncio.open_connection(*server.address)
        ...         writer.write(b"get a\\r\\n")
        ...         (call,) = await server.wait_for_async("get", "a")
        ...         writer.close()
        ...         await writer.wait_closed()
        ...         return str(call)
        >>> asyncio.run(main())
        'get a'
        """
        good_count(count, timeout)
        wanted = Wanted.of(command, key)
        return await in_thread(partial(self._wait_for, wanted, count, timeout))

    def _wait_for(
        self,
        wanted: Wanted,
        count: int,
        timeout_s: float,
        is_wanted: Callable[[], bool] | None = None,
    ) -> list[Call]:
        until = monotonic() + timeout_s
        while True:
            left = max(0.0, until - monotonic())
            slice_s = left if is_wanted is None else min(left, _WAIT_SLICE_S)
            found = self._running().wait(wanted, count, slice_s)
            if found is not None:
                return found
            if not left or not (is_wanted is None or is_wanted()):
                raise too_few(self.calls, wanted, count, timeout_s)
