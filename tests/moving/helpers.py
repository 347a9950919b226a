"""How the tests of moving hold talks: with a server of ours, or with a written part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymcd.moving.talk import Talk

    from ..protocol.helpers import Client


def talk_with(client: Client, talk: Talk[Any], *, step: int = 0) -> Any:
    """Hold a talk with a server, whose answers come `step` bytes at a time."""
    return _drive(talk, client.send, step)


def hold(talk: Talk[Any], *answers: bytes, step: int = 0) -> tuple[Any, list[bytes]]:
    """Return the result of a talk, and what was asked, of one who has learnt the answers.

    Behind the last one the connection ends.
    """
    left = list(answers)
    asked: list[bytes] = []

    def answer(question: bytes) -> bytes:
        asked.append(question)
        return left.pop(0) if left else b""

    return _drive(talk, answer, step), asked


def _drive(talk: Talk[Any], answer: Callable[[bytes], bytes], step: int) -> Any:
    waiting = b""
    try:
        to_send = next(talk)
        while True:
            if to_send:
                waiting += answer(to_send)
            piece, waiting = waiting[: step or None], waiting[step or len(waiting) :]
            to_send = talk.send(piece)
    except StopIteration as end:
        assert not waiting, "there was more to be read"
        return end.value
