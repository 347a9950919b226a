"""The fast driver: one epoll object holds all sockets of clients, one trio task serves them.

A task per connection costs 2 to 3 times the C server's CPU per request, most of it spent on
parking and waking tasks. An epoll object is itself readable when one of its sockets is, so trio
waits for *it*: one wake-up serves every connection that is ready. A turn is one `poll`, then for
each ready socket one `read`, `Connection.respond`, and one joined `write`. What must hold:

* Fair. A connection does one run a turn, which is bounded in commands and in bytes. Who has more
  to do, or whose last run was a full one, is *heavy*: it waits in a lane of its own, behind all
  who ask for little, until a run of it is not full. So do newcomers, of whom nothing is known. A
  turn looks at the clock: each lane, and those who are ready, have `SHARE_S` of it, and go on
  where they stood in the next one. So a client who asks for little waits for a few milliseconds,
  whatever hundreds of others do.
* The hub passes a trio checkpoint after each turn that ends `CHECKPOINT_EVERY_S` or more after the
  last one, so that timers, signals and replication are never starved.
* Back-pressure. What a `write` does not take is kept, the socket is watched for writing only,
  and nothing more is read or executed for that client until all is sent. Memory that a client
  takes so counts as under way, a value as soon as it is no item any more; when there is no room,
  who has not read for longest is closed.
* Quiet. With nothing to do the hub is parked in trio. Parking costs about as much as three
  requests, so after a turn it first waits `LINGER_S` in `poll` itself: a client that asks again
  at once is answered at once. Not while other tasks serve clients, too (`linger_s`). If the last
  wait was that short it waits `BRISK_LINGER_S`, for the sake of the kernel's timer.
* A hub of a server that replicates does not fall asleep at once, as long as waits are short: the
  other server answers within microseconds, and clients wait for that.
* One bug in a handler closes that one connection, with a traceback in the log.

`os.read` and `os.write` do what `recv` and `send` do, and cost 5 % of a request less.

Rejected: to write the replies of a turn after all its commands (the client is woken less often,
but the replies go cold: no gain); trio's guest mode (a thread hand-over for each wait);
`checkpoint` in every turn (15 us); `recv_into` (values must become `bytes` anyway).
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from .. import limits
from ..protocol.connection import no_wake
from ..protocol.paired import PairedConnection
from ..protocol.underway import Holder
from .tls import Turn

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ..protocol import Connection
    from ..service import Service
    from .tls import TlsSession

CHECKPOINT_EVERY_S: Final = 0.004
#: How often it is looked whether values that clients do not take are still those of items.
LOOK_AT_LENT_EVERY_S: Final = 0.01
#: Received from clients who are answered at once. Who asks for little asks for two shares in that,
#: at worst; of sets of 1 KB it is a few.
LOOK_AT_CLOCK_EVERY_BYTES: Final = 1 << 12
#: Of one turn, for those who are ready, and for each lane.
SHARE_S: Final = 0.001
LINGER_S: Final = 0.001
#: As long as clients ask again within `LINGER_S`. A wait that ends before the kernel's next tick,
#: mostly 4 ms away at most, has it set a timer, and set it back: 2 us in a virtual machine.
BRISK_LINGER_S: Final = 0.005
#: An eager hub stays awake for so long, if what it waited for last took no longer. What has not
#: come by then takes longer than to fall asleep and be woken does.
AWAKE_S: Final = 0.00005
#: Of one client's reply sent in one turn, in chunks, and in bytes or little more.
_CHUNKS_PER_TURN: Final = 4
_BYTES_PER_TURN: Final = 256 << 10
#: Written to at once, of those who have waited for other servers: that takes a millisecond or two.
DELIVERED_MAX: Final = 200

#: Whether there is what a hub is made of.
HUB_AVAILABLE: Final = hasattr(select, "epoll")

_READ: Final = getattr(select, "EPOLLIN", 0)
_WRITE: Final = getattr(select, "EPOLLOUT", 0)
_GONE: Final = getattr(select, "EPOLLHUP", 0) | getattr(select, "EPOLLERR", 0)


#: What is written to an eventfd.
_ONE: Final = (1).to_bytes(8, sys.byteorder)
#: Read of them at once, where each is kept.
_RINGS_BYTES: Final = 512


def _alarm() -> tuple[int, int]:
    """Return a descriptor to wait for and one to ring at: the same, where there is eventfd."""
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return fd, fd
    alarm, bell = os.pipe()
    os.set_blocking(alarm, False)
    os.set_blocking(bell, False)
    return alarm, bell


class Session(Holder):
    """A client's socket and its Connection, and TLS between them if that is spoken."""

    __slots__ = (
        "connection",
        "fd",
        "hungry",
        "lane",
        "lose",
        "muted",
        "queued",
        "respond",
        "sock",
        "tls",
        "unsent",
    )

    def __init__(
        self,
        sock: socket.socket,
        connection: Connection,
        tls: TlsSession | None,
        lane: deque[Session],
        lose: Callable[[Session], None],
    ) -> None:
        super().__init__()
        self.sock = sock
        self.fd = sock.fileno()
        self.connection = connection
        self.tls = tls
        self.respond = connection.respond if tls is None else tls.respond
        self.unsent: memoryview | None = None  #: reply that the socket did not take
        self.lane = lane  #: where it waits for its turn, if it has to
        self.queued = False  #: it is there
        self.hungry = False  #: so as to be read from
        self.lose = lose
        self.muted = False  #: not watched for reading, as its connection waits for others

    def give_up(self) -> None:
        """End: others need the memory of what this client does not read."""
        self.lose(self)


class Hub:
    """Serves any number of sockets from one trio task."""

    def __init__(
        self,
        service: Service,
        tls_turn: Turn | None = None,
        *,
        on_close: Callable[[Connection], None] = lambda connection: None,
        on_error: Callable[[Connection, Exception], None] = lambda connection, error: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._on_close = on_close
        self._on_error = on_error
        self._epoll = select.epoll()
        self._sessions: dict[int, Session] = {}
        self._monotonic = monotonic
        #: `respond` of those who may be read from at once: neither blocked nor queued nor heavy.
        self._responders: dict[int, Callable[[bytes], bytes | None]] = {}
        #: Other descriptors, and what to call when they are readable.
        self._watched: dict[int, Callable[[], None]] = {}
        #: Who is ready, but was not served in the last turn.
        self._rest: list[tuple[int, int]] = []
        # The lanes: of light clients, who have work left though their sockets may be silent; of
        # those who have yet to show what they are; of heavy ones.
        self._light: deque[Session] = deque()
        self._newcomers: deque[Session] = deque()
        self._heavy: deque[Session] = deque()
        #: Those blocked who have been lent values; and when, and behind how many stored items,
        #: it was looked whether these are items still.
        self._lent_to: dict[Session, None] = {}
        self._looked_at = 0.0
        self._stored = 0
        self._delivered = 0  #: to so many, since the last turn began
        self._alarm, self._bell = _alarm()
        self._epoll.register(self._alarm, _READ)
        self._parked = False
        self._tls_turn = tls_turn or Turn()
        #: How long to wait in `poll` before parking; 0 while other tasks must not wait for it.
        self.linger_s = LINGER_S
        self.brisk_linger_s = BRISK_LINGER_S
        self._brisk = False  #: the last wait was that short
        #: Other servers answer within moments, and clients wait for that.
        self.eager = False
        self._prompt = False  #: the last wait of an eager hub was very short

    def adopt(
        self, sock: socket.socket, connection: Connection, tls: TlsSession | None = None
    ) -> None:
        """Serve a connected, non-blocking socket from now on; the hub will close it."""
        session = Session(sock, connection, tls, self._newcomers, self._lose)
        if self._rest:  # who had this number before was perhaps ready
            self._rest = [each for each in self._rest if each[0] != session.fd]
        connection.wake = lambda: self._enqueue(session)
        connection.suspend = partial(self._responders.pop, session.fd, None)
        if isinstance(connection, PairedConnection) and tls is None:
            connection.deliver = partial(self._deliver, session)
        self._sessions[session.fd] = session
        self._epoll.register(session.fd, _READ)

    def watch(self, fd: int, on_ready: Callable[[], None]) -> None:
        """Call `on_ready`, which must not raise, whenever a descriptor is readable.

        For listening sockets: a new client is then met at once even while the hub lingers.
        """
        self._watched[fd] = on_ready
        self._epoll.register(fd, _READ)

    def watch_writable(self, fd: int, wanted: bool) -> None:
        """Call for a watched descriptor when it is writable, too; or no more."""
        self._epoll.modify(fd, _READ | _WRITE if wanted else _READ)

    def unwatch(self, fd: int) -> None:
        """Call no more for a descriptor; it need not be watched."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close_all(self) -> None:
        """Close every client and the hub itself."""
        for session in list(self._sessions.values()):
            self._close(session)
        self._epoll.close()
        for fd in {self._alarm, self._bell}:
            os.close(fd)

    def shut(self, connection: Connection) -> None:
        """Close the client of one connection, if it is served here."""
        for session in self._sessions.values():
            if session.connection is connection:
                self._close(session)
                return

    def drop_unheard(self) -> None:
        """Close every client that has sent anything which was not executed yet."""
        inputs = select.poll()
        for fd in self._sessions:
            inputs.register(fd, select.POLLIN)
        heard = {fd for fd, _ in inputs.poll(0)}
        for session in list(self._sessions.values()):
            if (
                session.queued
                or session.unsent is not None
                or session.connection.delayed  # what it has sent may be behind a login that goes on
                or session.fd in heard
            ):
                self._close(session)

    def serve_ready(self, turns: int) -> bool:
        """Serve, in so many turns at most, who is ready now; never from within a turn.

        Return whether there was anybody.
        """
        self._service.tick()
        for turn in range(turns):
            ready = self._rest or self._epoll.poll(0)
            if not ready and not self._busy:
                return turn > 0
            self._turn(ready, self._monotonic() + SHARE_S)
        return turns > 0

    async def run(self, on_turn_end: Callable[[bool], None] | None = None) -> None:
        """Serve until cancelled.

        `on_turn_end` is called after each turn, and told whether no client waits; it must not
        raise.
        """
        poll = self._epoll.poll
        monotonic = self._monotonic
        service = self._service
        light, newcomers, heavy = self._light, self._newcomers, self._heavy
        pause_at = ended_at = 0.0
        while True:
            if self._rest or light or newcomers or heavy:  # `_busy`
                ready = self._rest or poll(0)
                if on_turn_end is not None:
                    on_turn_end(False)
            else:
                ready = self._linger() if on_turn_end is None else self._await(on_turn_end)
                if not ready:
                    self._brisk = False
                    self._parked = True
                    try:
                        await trio.lowlevel.wait_readable(self._epoll.fileno())
                    finally:
                        self._parked = False
                    service.tick()
                    pause_at = monotonic() + CHECKPOINT_EVERY_S
                    continue
            now = monotonic()
            self._brisk = now - ended_at < LINGER_S
            self._turn(ready, now + SHARE_S)
            ended_at = monotonic()
            if ended_at > pause_at:
                await trio.lowlevel.checkpoint()
                service.tick()
                ended_at = monotonic()
                pause_at = ended_at + CHECKPOINT_EVERY_S

    def _linger(self) -> list[tuple[int, int]]:
        """Wait a moment for who may ask again."""
        wait_s = self.linger_s
        if self._brisk and 0 < wait_s < self.brisk_linger_s:
            wait_s = self.brisk_linger_s
        return self._epoll.poll(wait_s)

    def _await(self, on_turn_end: Callable[[bool], None]) -> list[tuple[int, int]]:
        """Wait as `poll` does, in a group of servers.

        If the last wait was short, stay awake for as long this time: to fall asleep and be woken
        takes longer than to serve a request. Others may run meanwhile.
        """
        poll = self._epoll.poll
        ready = poll(0)
        on_turn_end(not ready)
        if ready:
            return ready
        monotonic = self._monotonic
        since = monotonic()
        if self._prompt and self.eager:
            while True:
                ready = poll(0)
                if ready:
                    return ready
                if monotonic() - since > AWAKE_S:
                    break
                os.sched_yield()
        ready = self._linger()
        self._prompt = monotonic() - since < AWAKE_S
        return ready

    @property
    def _busy(self) -> bool:
        """Whether somebody is to be served in the next turn, be any socket ready or not."""
        return bool(self._rest or self._light or self._newcomers or self._heavy)

    def _turn(self, ready: list[tuple[int, int]], until: float) -> None:
        """Serve each ready socket once, as far as time allows, and the lanes.

        What of `ready` there was no time for, until then, is left in `_rest`.
        """
        # Hot path: bench/ "get16".
        self._delivered = 0
        heavy = len(self._heavy)  # who joins them now has been served in this turn
        monotonic = self._monotonic
        if self._light:
            self._serve_lane(self._light, len(self._light))
            until = monotonic() + SHARE_S
        pending = iter(ready)
        if self._rest:
            self._rest = []
        responders = self._responders
        receive_bytes = limits.RECEIVE_BYTES
        read, write = os.read, os.write
        received = sent_bytes = 0
        look_at = LOOK_AT_CLOCK_EVERY_BYTES
        for fd, events in pending:
            if received > look_at:
                look_at = received + LOOK_AT_CLOCK_EVERY_BYTES
                if monotonic() > until:
                    self._rest = [(fd, events), *pending]
                    break
            respond = responders.get(fd)
            if respond is None:
                self._resume_ready(fd, events)
                look_at = -1
                continue
            try:
                data = read(fd, receive_bytes)
            except (BlockingIOError, InterruptedError):
                continue  # it was not ready after all
            except OSError:
                self._lose(self._sessions[fd])
                continue
            if not data:
                self._close(self._sessions[fd])
                continue
            received += len(data)
            try:
                reply = respond(data)
            except Exception as error:
                self._fail(self._sessions[fd], error)
                continue
            if reply:
                try:
                    sent = write(fd, reply)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                except OSError:
                    self._lose(self._sessions[fd])
                    continue
                sent_bytes += sent
                if sent != len(reply):
                    self._block(self._sessions[fd], memoryview(reply)[sent:])
            elif reply is None:
                self._attend(self._sessions[fd])
                look_at = -1
        counters = self._service.counters
        counters.bytes_read += received
        counters.bytes_written += sent_bytes
        if self._newcomers or heavy or self._lent_to or self._tls_turn.active:
            self._end_turn(heavy)

    def _end_turn(self, heavy: int) -> None:
        """Serve the other lanes, the first so many of the heavy ones, and settle accounts."""
        if self._newcomers:
            self._serve_lane(self._newcomers, len(self._newcomers))
        if heavy:
            self._serve_lane(self._heavy, heavy)
        if self._lent_to:
            self._look_at_lent()
        turn = self._tls_turn
        if turn.active:
            counters = self._service.counters
            counters.bytes_read -= turn.surplus_read
            counters.bytes_written -= turn.surplus_written
            turn.begin()

    def _serve_lane(self, lane: deque[Session], number: int) -> None:
        """Let the first so many in a lane go on; if there is no time for all, one at least."""
        monotonic = self._monotonic
        until = monotonic() + SHARE_S
        for _ in range(number):
            session = lane.popleft()
            session.queued = False
            if self._sessions.get(session.fd) is session:
                self._resume(session)
                if monotonic() > until:
                    break

    def _resume_ready(self, fd: int, events: int) -> None:
        """Deal with a ready descriptor that is not a client to read from."""
        session = self._sessions.get(fd)
        if session is not None:
            if session.unsent is not None:
                if self._write(session, session.unsent):
                    self._enqueue(session)
            elif session.connection.waiting or session.connection.aside:
                if events & _GONE:
                    self._close(session)
                elif not session.muted:
                    # It sends more though its connection waits: hear of that later.
                    session.muted = True
                    self._epoll.modify(fd, 0)
            elif not session.queued:
                session.hungry = True
                self._enqueue(session)
        elif fd == self._alarm:
            os.read(fd, _RINGS_BYTES)
        elif fd in self._watched:
            self._watched[fd]()

    def _read_again(self, session: Session) -> None:
        """Read from a client again if nothing stands against it."""
        if session.connection.aside:
            return
        if session.tls is not None and session.tls.ended:
            self._close(session)
        elif session.unsent is None and not session.queued and not session.connection.waiting:
            if session.muted:
                session.muted = False
                self._epoll.modify(session.fd, _READ)
            self._respond_again(session)

    def _respond_again(self, session: Session) -> None:
        """Have a client answered as soon as it is ready, unless it is to wait in its lane."""
        if session.lane is self._light:
            self._responders[session.fd] = (
                session.connection.responder if session.tls is None else session.respond
            )

    def _deliver(self, session: Session, reply: bytes) -> None:
        """Write what a client has waited for, and read from it again."""
        # Hot path: bench/ "pair16".
        fd = session.fd
        delivered = self._delivered
        # Mostly nothing came meanwhile, and it was never stopped to read from it.
        is_ready = fd in self._responders
        if delivered >= DELIVERED_MAX or (
            not is_ready and (session.unsent is not None or session.queued)
        ):
            session.connection.reply(reply)
            self._enqueue(session)
            return
        self._delivered = delivered + 1
        if reply:
            try:
                sent = os.write(fd, reply)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._lose(session)
                return
            self._service.counters.bytes_written += sent
            if sent != len(reply):
                self._block(session, memoryview(reply)[sent:])
                return
        if is_ready:
            return
        if session.muted or session.connection.aside:
            self._read_again(session)
        elif session.lane is self._light:  # `_respond_again`
            self._responders[fd] = session.respond

    def _resume(self, session: Session) -> None:
        """Go on with a session that has waited in a lane."""
        try:
            if session.hungry:
                session.hungry = False
                self._receive(session)
                return
            if session.tls is not None:
                session.tls.advance()
            connection = session.connection
            more = bool(connection.pieces)
            if not more:
                more = connection.run()
                self._weigh(session, more=more)
            self._write_replies(session, more=more)
        except Exception as error:
            self._fail(session, error)

    def _receive(self, session: Session) -> None:
        """Do for one session what is done for those who are ready."""
        try:
            data = os.read(session.fd, limits.RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return  # it was not ready after all
        except OSError:
            self._lose(session)
            return
        if not data:
            self._close(session)
            return
        self._service.counters.bytes_read += len(data)
        is_known = session.tls is None or session.tls.established
        reply = session.respond(data)
        if reply is None:
            self._attend(session)
            return
        if is_known:
            session.lane = self._light
        if self._write(session, memoryview(reply)):
            self._read_again(session)

    def _attend(self, session: Session) -> None:
        """Write what a connection has to say beyond one reply, and see what else it wants."""
        try:
            more = session.connection.has_more
            self._weigh(session, more=more)
            self._write_replies(session, more=more)
        except Exception as error:
            self._fail(session, error)

    def _weigh(self, session: Session, *, more: bool) -> None:
        """Choose the lane of a session by its last run."""
        if more or session.connection.weight >= limits.RUN_REPLY_BYTES:
            session.lane = self._heavy
            self._responders.pop(session.fd, None)
        else:
            session.lane = self._light

    def _write_replies(self, session: Session, *, more: bool) -> None:
        """Write what there is to say, a bounded part of it in each turn."""
        connection = session.connection
        tls = session.tls
        if tls is not None and not self._write(session, memoryview(tls.drain())):
            return
        # Behind a source that has ended, commands may be waiting.
        more = more or connection.source is not None
        # What is sealed takes memory of its own.
        most = (limits.REPLY_CHUNK_BYTES, _BYTES_PER_TURN)
        if tls is not None:
            most = (tls.seal_bytes, tls.seal_bytes)
        room = _BYTES_PER_TURN
        for _ in range(_CHUNKS_PER_TURN):
            if room <= 0:
                more = True
                break
            chunk = connection.next_chunk(*most)
            if chunk is None:
                break
            room -= len(chunk)
            if tls is not None:
                chunk = tls.seal(chunk)
            if not self._write(session, memoryview(chunk)):
                return
        else:
            more = True
        if connection.waiting:
            return
        if more or connection.pieces:
            self._enqueue(session)
        elif connection.closing:
            self._close(session)
        else:
            self._read_again(session)

    def _write(self, session: Session, data: memoryview) -> bool:
        """Write; False: the socket took but a part, and the rest is kept, or it is gone."""
        while data:
            try:
                sent = os.write(session.fd, data)
            except (BlockingIOError, InterruptedError):
                self._block(session, data)
                return False
            except OSError:
                self._lose(session)
                return False
            self._service.counters.bytes_written += sent
            data = data[sent:]
        if session.unsent is not None:
            session.unsent = None
            self._epoll.modify(session.fd, _READ)
            self._release(session)
        return True

    def _block(self, session: Session, unsent: memoryview) -> None:
        """Stop reading from a client until it has taken what it asked for."""
        if session.unsent is None:
            self._epoll.modify(session.fd, _WRITE)
            self._responders.pop(session.fd, None)
            session.lane = self._heavy
        elif len(unsent) != len(session.unsent):
            self._service.under_way.release(session)  # it gets on: so it is counted anew
        session.unsent = unsent
        self._charge(session)

    def _charge(self, session: Session) -> None:
        """Count what a blocked client takes of memory; close it if there is not so much."""
        connection = session.connection
        assert session.unsent is not None
        held_bytes = connection.unread_bytes(len(session.unsent))
        if not self._service.under_way.charge(session, held_bytes):
            self._lose(session)
        elif connection.lent:
            self._lent_to[session] = None
        else:
            self._lent_to.pop(session, None)

    def _release(self, session: Session) -> None:
        """Count nothing for a client that is blocked no more, or gone."""
        self._lent_to.pop(session, None)
        self._service.under_way.release(session)

    def _look_at_lent(self) -> None:
        """Count values that are no items any more, if anything was stored since the last time."""
        stored = self._service.cache.total_items
        now = self._monotonic()
        if stored != self._stored and now - self._looked_at >= LOOK_AT_LENT_EVERY_S:
            self._stored = stored
            self._looked_at = now
            for session in list(self._lent_to):
                if session in self._lent_to:  # not closed for another one
                    self._charge(session)

    def _enqueue(self, session: Session) -> None:
        """Have a session resumed when it is its turn."""
        if not session.queued and session.unsent is None:
            session.queued = True
            self._responders.pop(session.fd, None)
            session.lane.append(session)
            if self._parked:
                self._ring()

    def _ring(self) -> None:
        """Wake the hub, which is parked."""
        try:
            os.write(self._bell, _ONE)
        except BlockingIOError:
            pass  # it was woken often enough

    def _fail(self, session: Session, error: Exception) -> None:
        """End a session in whose commands we have a bug."""
        self._on_error(session.connection, error)
        self._lose(session)

    def _lose(self, session: Session) -> None:
        """End a session whose client is out of reach."""
        session.connection.close_reason = "error"
        self._close(session)

    def _close(self, session: Session) -> None:
        if self._sessions.pop(session.fd, None) is None:
            return
        self._responders.pop(session.fd, None)
        self._release(session)
        self._epoll.unregister(session.fd)
        # The end of a TLS session, or why there is none, if that goes without waiting.
        last_words = b"" if session.tls is None else session.tls.farewell()
        if last_words and session.unsent is None:
            try:
                os.write(session.fd, last_words)
            except OSError:
                pass
        session.sock.close()
        connection = session.connection
        connection.closing = True
        connection.source = None
        connection.pieces.clear()
        connection.lent.clear()
        session.unsent = None
        connection.wake = no_wake  # without this cycle it is freed at once
        connection.suspend = no_wake
        if isinstance(connection, PairedConnection):
            connection.deliver = None
        self._on_close(connection)
