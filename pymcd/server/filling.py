"""`--fill-from`: the sockets and the pace of a fill. What may become ours is `moving.filling`'s.

Keys are listed on one connection, items fetched on another one, a few at a time, those used last
first. Everything is done in short steps with pauses of several times their length, so that clients
have most of the processor. A step takes what has come, stores it and asks for more: that comes in
the pause. Between any two items clients who have asked meanwhile are served, so they wait for one
item and not for a step. In a pair each step waits until the other node has what was filled before:
a peer that is slow slows the fill, and not the clients.

A source that goes away is looked for again for a while, and the fill goes on where it was.

In a pair the node that decides fills; the others get what it fills as they get what its clients
write. A node that joins another one with data fills nothing, and one that decides no longer stops.
None goes on in its place: of what clients deleted before it came, the others know nothing, so it
would come back. Who decides then says so, and how a person can have the rest.
"""

from __future__ import annotations

import ssl
import time
from collections import Counter
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from ..moving.counting import items_in_words
from ..moving.filling import Fill, Outcome, Stage
from ..moving.plan import Plan
from ..moving.source import fetch, list_keys
from ..moving.talk import BusyError, Door, TalkError, greet
from ..replication.waiting import Nobody
from .calling import Call
from .certificates import reason_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..addresses import Address
    from ..moving.source import Fetched, Listing
    from ..moving.talk import Talk
    from ..replication.gate import Gate
    from ..service import Service

    Result = TypeVar("Result")

#: Items fetched at a time, and how large they may be together.
BATCH_ITEMS: Final = 10
BATCH_BYTES: Final = 64 << 10
#: What is read of a list of keys at a time, for which nobody is served, and of items.
LISTING_BYTES: Final = 2 << 10
RECEIVE_BYTES: Final = 64 << 10
#: What a step may take of the processor before no further item is stored in it.
STEP_S: Final = 0.0003
#: How many times as long as a step took the next one has to wait, and how long at least.
PAUSE_FACTOR: Final = 4
PAUSE_MIN_S: Final = 0.001
#: What the list of keys may take, of the memory for items; and at least.
KEYS_SHARE: Final = 4
KEYS_MIN_BYTES: Final = 64 << 20
#: For how long a source that does not answer is tried, how often, and when it is silent.
PATIENCE_S: Final = 30.0
RETRY_S: Final = 1.0
SILENCE_S: Final = 10.0
#: How often the log tells how far it is.
TELL_EVERY_S: Final = 10.0
#: Nothing is begun when the lease ends within so long: a step must be done by then.
_LEASE_MARGIN_S: Final = 0.01


_CLOSED: Final = "the connection was closed"
_LOGIN_OPTION: Final = "--fill-from-login-file"
_TLS_OPTION: Final = "--fill-from-tls"
_CLOSED_AT_ONCE: Final = (
    f"{_CLOSED} at once: it may want TLS ({_TLS_OPTION}), or speak the binary protocol alone"
)
_NO_TLS: Final = f"{_CLOSED} in the TLS handshake"
_THE_REST: Final = "pymcd dump and pymcd load bring the rest"


class _Turn(Nobody):
    """Waits until the other nodes have what was filled, or a large value that is to be."""

    def __init__(self) -> None:
        self.over = trio.Event()

    def released(self) -> None:
        self.over.set()

    def resumed(self) -> None:
        self.over.set()

    def abandoned(self) -> None:
        self.over.set()

    def staged(self) -> None:
        self.over.set()


class Pace:
    """What a step has taken of the processor, and the rest that follows from it."""

    def __init__(self, processor_s: Callable[[], float]) -> None:
        """`processor_s` tells what this thread has had of the processor."""
        self._processor_s = processor_s
        self._took_s = 0.0  #: up to the last wait
        self._since = processor_s()

    @property
    def spent(self) -> bool:
        """Whether a step has taken what it may."""
        return self._took_s + self._processor_s() - self._since >= STEP_S

    async def rest(self) -> None:
        """Let others have the processor, by what was taken of it; the next step begins."""
        took_s = self._took_s + self._processor_s() - self._since
        await trio.sleep(max(PAUSE_MIN_S, PAUSE_FACTOR * took_s))
        self._took_s = 0.0
        self._since = self._processor_s()

    def aside(self, serve: Callable[[], bool]) -> bool:
        """Have others served; what that takes is theirs. Return what it tells."""
        self._took_s += self._processor_s() - self._since
        done = serve()
        self._since = self._processor_s()
        return done

    async def wait(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Wait for something: what others take meanwhile is theirs."""
        self._took_s += self._processor_s() - self._since
        await wait()
        self._since = self._processor_s()


class Filling:
    """One fill of one server."""

    def __init__(
        self,
        service: Service,
        source: Address,
        *,
        login: bytes = b"",
        context: Callable[[], ssl.SSLContext] | None = None,
        say: Callable[[str], None],
        send_turn: Callable[[], None],
        serve_others: Callable[[], bool] = lambda: False,
        processor_s: Callable[[], float] = time.thread_time,
    ) -> None:
        """Begin to note what clients delete: this is to be made before the first may come in.

        The source may want a `login`, see `moving.talk`, and TLS, for which there is a `context`.
        `say` is for the log; `send_turn` is called after items were stored. `serve_others` serves
        clients who have asked, and tells whether there were any.
        """
        self._service = service
        self._gate: Gate | None = service.gate
        self._source = source
        self._door = Door(login, login_option=_LOGIN_OPTION, tls_option=_TLS_OPTION)
        self._context = context
        self._say = say
        self._send_turn = send_turn
        self._serve_others = serve_others
        self._listed = 0
        self._not_found = 0  #: were listed, and are not there any more
        self._told_at = -inf
        self._pace = Pace(processor_s)
        #: What /readyz says more, if the fill ended and perhaps not everything is here.
        self.shortfall = ""
        self._fill: Fill | None = None
        self._state = Stage.LEFT
        self._reason = ""  #: why it ended before its end
        self._began = self._ended = 0.0
        if self._leads:
            self._fill = Fill(service.cache, was_deleted=self._was_deleted)
            self._state = Stage.LISTING
            self._began = trio.current_time()

    @property
    def _leads(self) -> bool:
        return self._gate is None or self._gate.stance.leading

    def _was_deleted(self, key: bytes) -> bool:
        return self._gate is not None and self._gate.changes.tombstones.get(key) != 0

    def rows(self) -> list[tuple[str, Any]]:
        """Return what `stats fill` says."""
        outcomes: Counter[Outcome] = Counter() if self._fill is None else self._fill.outcomes
        now = trio.current_time() if self._state.under_way else self._ended
        return [
            ("state", self._state),
            ("source", self._source),
            ("reason", self._reason.replace(" ", "_") or "-"),
            ("seconds", f"{now - self._began:.3f}"),
            ("listed", self._listed),
            *[(each.name.lower(), outcomes[each]) for each in Outcome],
            ("not_found", self._not_found),
        ]

    async def run(self) -> None:
        """Fill until nothing is left, or nothing more may be filled; say how far that came."""
        source = self._source
        if self._fill is None:
            self._say(f"fill from {source}: left to the node that coordinates")
            await self._outlive()
            return
        self._began = self._told_at = trio.current_time()
        how = Stage.STOPPED, "this server stops"
        try:
            how = await self._run(self._fill)
        finally:
            self._fill.end()
            self._ended = trio.current_time()
            self._state, self._reason = how
            rest = ""
            if self._state is Stage.SHORT:
                self.shortfall = f"the fill from {source} did not come to its end"
                rest = f"; {_THE_REST}"
            why = f"stopped, as {self._reason}" if self._reason else self._state
            said = f"{why}: {self._how_far()}, after {self._ended - self._began:.1f} s{rest}"
            self._say(f"fill from {source}: {said}")

    async def _outlive(self) -> None:
        """Wait until this node decides, and say what the loss of the one that filled means."""
        while not self._leads:  # noqa: ASYNC110 - a role that changes tells nobody here
            await trio.sleep(RETRY_S)
        self._state, self._reason = Stage.SHORT, "the node that filled is gone"
        self.shortfall = f"the node that filled from {self._source} is gone, perhaps too early"
        self._say(
            f"fill from {self._source}: the node that filled is gone; if its log does not say"
            f" that the fill was done, {_THE_REST}"
        )

    async def _run(self, fill: Fill) -> tuple[Stage, str]:
        """Return how it ended, and why before its end."""
        memory_bytes = self._service.cache.slabs.limit_bytes
        most_bytes = max(KEYS_MIN_BYTES, memory_bytes // KEYS_SHARE)
        plan = Plan(most_bytes, newest_first=True)
        try:
            plan, listing = await self._list(most_bytes)
            self._listed = plan.count
            self._state = Stage.FILLING
            self._tell_of(plan, listing)
            await self._take_all(fill, plan, listing)
        except (OSError, TalkError, trio.TooSlowError) as error:
            return Stage.SHORT, f"it {_in_words(error)}"
        if fill.why_over:
            return Stage.STOPPED, fill.why_over
        if not self._leads:
            return Stage.SHORT, "another node decides now"
        return Stage.DONE, ""

    def _how_far(self) -> str:
        assert self._fill is not None
        outcomes = self._fill.outcomes
        words = [f"{outcomes[Outcome.FILLED]:,} of {items_in_words(self._listed)} {Outcome.FILLED}"]
        words += [
            f"{number:,} {each}"
            for each in Outcome
            if (number := outcomes[each]) and each is not Outcome.FILLED
        ]
        if self._not_found:
            words.append(f"{self._not_found:,} not found any more")
        return ", ".join(words)

    def _tell_of(self, plan: Plan, listing: Listing) -> None:
        missing = max(plan.left_out, listing.has - plan.count)
        more = f"; {missing:,} more are not listed" if missing > 0 else ""
        self._say(f"fill from {self._source}: begins with {items_in_words(plan.count)}{more}")

    # -- the source ----------------------------------------------------------------------------

    async def _list(self, most_bytes: int) -> tuple[Plan, Listing]:
        """Gather the keys, over again if that fails."""
        until = inf
        while True:
            plan = Plan(most_bytes, newest_first=True)
            try:
                with await self._call() as call:
                    await self._talk(call, greet(self._door))
                    return plan, await self._talk(call, list_keys(plan, time.time), LISTING_BYTES)
            except (OSError, BusyError, trio.TooSlowError) as error:
                until = self._be_patient(until, error)
            await trio.sleep(RETRY_S)

    def _be_patient(self, until: float, error: Exception) -> float:
        """Return until when the source is asked again, said at its first failure; or raise."""
        now = trio.current_time()
        if now >= until:
            raise error
        if until < inf:
            return until
        it = f"it {_in_words(error)}; it is asked again for {PATIENCE_S:.0f} s"
        self._say(f"fill from {self._source}: {it}")
        return now + PATIENCE_S

    async def _call(self) -> Call:
        host, port = self._source
        assert host is not None
        context = None if self._context is None else self._context()
        with trio.fail_after(SILENCE_S):
            return await Call.open(host, port, context)

    async def _talk(
        self, call: Call, talk: Talk[Result], most_bytes: int = RECEIVE_BYTES
    ) -> Result:
        """Hold a talk, whose steps are as long as so many bytes make them.

        What follows is of the same step as the last of these.
        """
        try:
            to_send = next(talk)
            while True:
                if to_send:
                    is_sent = call.send(to_send)
                    while not is_sent:
                        await self._wait_for_source(call.writable)
                        is_sent = call.send(b"")
                await self._pace.rest()  # the answer comes meanwhile
                while (data := call.receive(most_bytes)) is None:
                    await self._wait_for_source(call.readable)
                self._gave_way()
                if not data:
                    raise ConnectionResetError(self._closed(call))
                to_send = talk.send(data)
        except StopIteration as end:
            result: Result = end.value
            return result
        except ssl.SSLError as error:  # which no patience mends
            reason = reason_of(error).rstrip(".")
            raise TalkError(f"cannot be talked to by TLS ({reason})") from None

    def _closed(self, call: Call) -> str:
        if call.heard:
            return _CLOSED
        return _CLOSED_AT_ONCE if self._context is None else _NO_TLS

    async def _wait_for_source(self, wait: Callable[[], Awaitable[None]]) -> None:
        with trio.fail_after(SILENCE_S):
            await self._pace.wait(wait)

    # -- the items -----------------------------------------------------------------------------

    async def _take_all(self, fill: Fill, plan: Plan, listing: Listing) -> None:
        """Fetch and store, until nothing is left or nothing more may be filled."""
        wanted = plan.take(BATCH_ITEMS, BATCH_BYTES)
        until = inf
        while wanted:
            try:
                with await self._call() as call:
                    await self._talk(call, greet(self._door))
                    while wanted:
                        items = await self._talk(call, fetch(wanted, listing, time.time))
                        until = inf
                        self._not_found += len(wanted) - len(items)
                        self._gave_way()
                        wanted = plan.take(BATCH_ITEMS, BATCH_BYTES)
                        if not await self._store(fill, items):
                            return
                        self._tell()
            except (OSError, trio.TooSlowError) as error:
                until = self._be_patient(until, error)
                await trio.sleep(RETRY_S)

    async def _store(self, fill: Fill, items: list[Fetched]) -> bool:
        """Store items; False: nothing more may be filled."""
        staged = [item.value for item in items if self._is_large(item)]
        try:
            for value in staged:
                await self._stage(value)
            stored = 0
            while stored < len(items):
                if self._pace.spent:
                    await self._wait_for_others()
                    await self._pace.rest()
                while not self._may_store():
                    await self._wait_to_store()
                self._service.tick()
                if fill.why_over or not self._leads:
                    return False
                stored = self._store_some(fill, items, stored)
                self._send_turn()
            await self._wait_for_others()
        finally:
            for value in staged:
                assert self._gate is not None
                self._gate.unstage(value)
        return True

    def _store_some(self, fill: Fill, items: list[Fetched], at: int) -> int:
        """Store items from there on, one at least and as many as a step may; return where it is.

        Not more once clients were served between two of them: all may be different then.
        """
        for item in items[at:]:
            fill.take(item)
            at += 1
            if fill.ended or self._pace.spent or self._gave_way():
                break
        return at

    def _gave_way(self) -> bool:
        """Serve clients who have asked meanwhile; return whether there were any."""
        return self._pace.aside(self._serve_others)

    async def _wait_for_others(self) -> None:
        """Wait until the other nodes have what was filled."""
        gate, turn = self._gate, _Turn()
        if gate is not None and gate.stance.protecting and gate.unacked:
            gate.hold(turn)
            self._send_turn()
            await self._pace.wait(turn.over.wait)

    def _is_large(self, item: Fetched) -> bool:
        """Whether others are to have the value before it is spoken of."""
        return (
            self._gate is not None and len(item.value) > self._service.cache.slabs.chunk_max_bytes
        )

    async def _stage(self, value: bytes) -> None:
        """Have the other nodes get a large value."""
        gate, turn = self._gate, _Turn()
        if gate is not None and self._leads and gate.stage(turn, value):
            self._send_turn()
            await self._pace.wait(turn.over.wait)

    def _may_store(self) -> bool:
        """Whether what is executed in this step is so by whoever decides."""
        gate = self._gate
        if gate is None or not self._leads:
            return True  # in the latter case nothing is stored at all
        open_until = gate.open_until - _LEASE_MARGIN_S
        return not gate.stance.refusing and gate.clock.monotonic() < open_until

    async def _wait_to_store(self) -> None:
        gate, turn = self._gate, _Turn()
        assert gate is not None
        if gate.stance.refusing:
            await self._pace.wait(partial(trio.sleep, RETRY_S))  # for a peer
            return
        gate.wait_open(turn)
        self._send_turn()
        await self._pace.wait(turn.over.wait)

    def _tell(self) -> None:
        """Say now and then how far it is."""
        if trio.current_time() >= self._told_at + TELL_EVERY_S:
            self._told_at = trio.current_time()
            self._say(f"fill from {self._source}: {self._how_far()}")


def _in_words(error: Exception) -> str:
    """Return what the source did, to be put behind "it"."""
    if isinstance(error, TalkError):
        return str(error)
    if isinstance(error, trio.TooSlowError):
        return "does not answer"
    if isinstance(error, OSError) and error.strerror:
        return f"does not answer ({error.strerror.lower()})"
    return f"does not answer ({error})"
