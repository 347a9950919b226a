"""The port where this server is asked by HTTP how it does.

What is said is in `web`; who may ask, how often and for how long is for `guests` to say. All
together take a tenth of the time of the event loop at most, a fraction of a millisecond in each of
its rounds: whoever asks without end slows down who asks, and no client of the cache.
"""

from __future__ import annotations

import resource
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from ..web.asking import PageConversation
from ..web.pages import Pages
from .guests import Guest, Guests
from .lag import Lag

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Clock
    from ..readiness import Readiness
    from ..service import Service
    from .listening import Endpoint
    from .memory import Memory

#: Load balancers, Prometheus, and a person now and then.
CLIENTS_MAX: Final = 32
#: Of the time of the event loop, for all of them.
SHARE: Final = 0.1
#: Parts of a page are made together until so much time has gone.
TURN_S: Final = 0.0004
#: Longer than between two questions of Prometheus, which keeps its connection.
IDLE_TIMEOUT_S: Final = 75.0

_STATM: Final = "/proc/self/statm"


class WebServer:
    """Serves the pages of one server, to any number of endpoints.

    `clock` is real, whatever the items' one does. `on_error` is told of a bug, which costs one
    guest.
    """

    def __init__(
        self,
        service: Service,
        readiness: Callable[[], Readiness],
        *,
        clock: Clock,
        memory: Memory,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._memory = memory
        self.lag = Lag(clock)
        self._pages = Pages(service, readiness, self._measure)
        #: One page is made after the other: who asks whether clients may come waits for none.
        self._making = trio.Lock()
        self.guests = Guests(
            self._serve,
            on_error,
            most=CLIENTS_MAX,
            steps_per_round=1,
            share=SHARE,
            idle_timeout_s=IDLE_TIMEOUT_S,
        )

    async def listen(self, endpoint: Endpoint) -> None:
        """Serve one endpoint until cancelled; it is closed by its owner."""
        await self.guests.listen(endpoint)

    async def _serve(self, stream: trio.abc.Stream, guest: Guest) -> None:
        await self.guests.answer(stream, guest, PageConversation(self._pages), self._conclude)

    async def _conclude(self, conversation: PageConversation, answer: bytes) -> bytes:
        """Make the page that was asked for, part by part, if it is still to be made."""
        if conversation.asked:
            async with self._making:
                while conversation.asked:
                    answer = await self.guests.in_turn(partial(self._go_on, conversation))
        return answer

    def _go_on(self, conversation: PageConversation) -> bytes:
        """Make some parts; return the answer if that was all."""
        until = trio.current_time() + TURN_S
        answer = conversation.go_on()
        while conversation.asked and trio.current_time() < until:
            answer = conversation.go_on()
        return answer

    def _measure(self) -> dict[str, Any]:
        self.lag.asked()
        rows = {"memory_shortages": self._memory.shortages, **self.lag.rows()}
        resident_bytes = _resident_bytes()
        if resident_bytes is not None:
            rows["resident_bytes"] = resident_bytes
        return rows


def _resident_bytes() -> int | None:
    """Return how much memory the process has; None: this system does not tell."""
    try:
        with open(_STATM, "rb", buffering=0) as file:
            return int(file.read(200).split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None
