"""The network between the nodes: TCP proxies that cut, stall, delay and slow down.

Runs as a process of its own (`python -m conformance.pair.wire`), so that it competes neither with
the nodes nor with the clients for an interpreter. It obeys lines of JSON on its standard input and
answers each with one; `Wires` is the other end of that conversation.

A wire is a listening port and a target. Its two directions are "forth", towards the target, and
"back". Each direction has its own delay, rate and stall, which apply to connections that are there
as well as to new ones. What a stalled direction holds back is delivered when it flows again, as TCP
would; who wants it lost cuts the wire as well. A wire that is down accepts what dials and keeps it
waiting, as a network does that swallows packets; one that refuses resets it at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any, Literal, Self

ROOT = Path(__file__).resolve().parents[2]
CHUNK_BYTES = 65536
HELD_MAX_BYTES = 4 << 20
RECORDED_MAX_BYTES = 4096
RESET = struct.pack("ii", 1, 0)  # linger for no time: close() sends a reset

Direction = Literal["forth", "back"]
DIRECTIONS: tuple[Direction, Direction] = ("forth", "back")


class Conditions:
    """What one direction of a wire does to the bytes of all its connections."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.rate_bytes_s = 0.0  # 0: as fast as it goes
        self.flows = asyncio.Event()
        self.flows.set()
        self.halve_next = False
        self.passed_bytes = 0


class Passage:
    """One proxied connection."""

    def __init__(self, wire: Wire, near: socket.socket) -> None:
        self.wire = wire
        self.near = near
        self.far: socket.socket | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.recorded: dict[Direction, bytearray] = {each: bytearray() for each in DIRECTIONS}
        self.ended = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        far = socket.socket()
        far.setblocking(False)
        try:
            await self.wire.up.wait()
            await loop.sock_connect(far, ("127.0.0.1", self.wire.target))
        except (OSError, asyncio.CancelledError):
            # Nobody listens there: the one who dialled learns it as he would without a proxy.
            far.close()
            self.close(reset=True)
            return
        self.far = far
        for each in (self.near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire.latest = self.recorded
        self.tasks += [
            loop.create_task(self._pump(self.near, far, "forth")),
            loop.create_task(self._pump(far, self.near, "back")),
        ]

    async def _pump(self, source: socket.socket, sink: socket.socket, way: Direction) -> None:
        loop = asyncio.get_running_loop()
        held: deque[tuple[float, bytes]] = deque()
        held_bytes = 0
        arrived, left = asyncio.Event(), asyncio.Event()
        conditions = self.wire.conditions[way]

        async def deliver() -> None:
            nonlocal held_bytes
            while True:
                while not held:
                    arrived.clear()
                    await arrived.wait()
                due, data = held.popleft()
                # Before a pause for the stall and after it: it may have been stalled meanwhile.
                await conditions.flows.wait()
                if (wait_s := due + conditions.delay_s - loop.time()) > 0:
                    await asyncio.sleep(wait_s)
                await conditions.flows.wait()
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    self.ended += 1
                    if self.ended == len(DIRECTIONS):
                        self.close(reset=False)
                    return
                if conditions.halve_next:
                    conditions.halve_next = False
                    await loop.sock_sendall(sink, data[: (len(data) + 1) // 2])
                    self.wire.cut(reset=True)
                    return
                if conditions.rate_bytes_s:
                    await asyncio.sleep(len(data) / conditions.rate_bytes_s)
                await loop.sock_sendall(sink, data)
                conditions.passed_bytes += len(data)
                recorded = self.recorded[way]
                recorded += data[: RECORDED_MAX_BYTES - len(recorded)]
                held_bytes -= len(data)
                left.set()

        async def deliver_or_close() -> None:
            try:
                await deliver()
            except OSError:
                self.close(reset=True)

        sender = loop.create_task(deliver_or_close())
        self.tasks.append(sender)
        try:
            while True:
                data = await loop.sock_recv(source, CHUNK_BYTES)
                held.append((loop.time(), data))
                held_bytes += len(data)
                arrived.set()
                if not data:
                    break
                while held_bytes > HELD_MAX_BYTES:
                    left.clear()
                    await left.wait()
            await sender
        except OSError:
            self.close(reset=True)

    def close(self, *, reset: bool) -> None:
        self.wire.passages.discard(self)
        current = asyncio.current_task()
        for task in self.tasks:
            if task is not current:
                task.cancel()
        for each in (self.near, self.far):
            if each is not None and each.fileno() >= 0:
                if reset:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                each.close()


class Wire:
    """A port, where it leads, and in which condition it is."""

    def __init__(self) -> None:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.listener.setblocking(False)
        self.target = 0
        self.up = asyncio.Event()
        self.up.set()
        self.refuses = False
        self.conditions: dict[Direction, Conditions] = {each: Conditions() for each in DIRECTIONS}
        self.passages: set[Passage] = set()
        self.latest: dict[Direction, bytearray] = {}
        self.accepted = 0

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(self.listener)
            near.setblocking(False)
            self.accepted += 1
            passage = Passage(self, near)
            if self.refuses:
                passage.close(reset=True)
                continue
            self.passages.add(passage)
            passage.tasks.append(loop.create_task(passage.run()))

    def cut(self, *, reset: bool) -> None:
        for passage in list(self.passages):
            passage.close(reset=reset)


class Proxy:
    """All wires of one process, and the orders that it takes."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.tasks: list[asyncio.Task[None]] = []

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        do = order["do"]
        if do == "open":
            wire = Wire()
            self.wires.append(wire)
            self.tasks.append(asyncio.get_running_loop().create_task(wire.serve()))
            return {"wire": len(self.wires) - 1, "port": wire.listener.getsockname()[1]}
        wire = self.wires[order["wire"]]
        if do == "target":
            wire.target = order["port"]
        elif do == "cut":
            wire.cut(reset=order["reset"])
        elif do == "down":
            wire.up.clear()
        elif do == "up":
            wire.up.set()
            wire.refuses = False
        elif do == "refuse":
            wire.refuses = True
        elif do == "recorded":
            return {way: bytes(data).hex() for way, data in wire.latest.items()}
        elif do == "passed":
            return {way: wire.conditions[way].passed_bytes for way in DIRECTIONS} | {
                "connections": len(wire.passages),
                "accepted": wire.accepted,
            }
        else:
            conditions = wire.conditions[order["way"]]
            if do == "delay":
                conditions.delay_s = order["seconds"]
            elif do == "rate":
                conditions.rate_bytes_s = order["bytes_s"]
            elif do == "stall":
                conditions.flows.clear()
            elif do == "flow":
                conditions.flows.set()
            elif do == "halve":
                conditions.halve_next = True
            else:
                raise ValueError(do)
        return {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        lines = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        # The end of the input is the end of the one who gives the orders.
        while line := await lines.readline():
            answer = self.obey(json.loads(line))
            await asyncio.sleep(0)  # what was cancelled ends before the answer
            print(json.dumps(answer), flush=True)


class Wires:
    """The process of the wires, as a trial sees it. A context manager."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "conformance.pair.wire"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def order(self, do: str, **words: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **words}).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def open(self) -> tuple[int, int]:
        """Open a wire that leads nowhere yet; return its number and its port."""
        answer = self.order("open")
        return answer["wire"], answer["port"]

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for each in (self._process.stdin, self._process.stdout):
            if each is not None:
                each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


if __name__ == "__main__":
    asyncio.run(Proxy().run())
