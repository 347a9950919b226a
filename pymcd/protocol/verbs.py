"""What a command is: one row each in the tables of the text protocols.

A leaf: the handlers are handed in by the modules that have the tables, and it is theirs to say of
which kind of connection they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

type_Header = tuple[Any, ...]


class Verb:
    """One command of a text protocol.

    Without `decode` the handler is called with the words of the line. With it, `decode` is,
    and returns either (length of the block, quiet, key, ...) or None when it has replied itself.
    """

    __slots__ = ("decode", "handler", "store")

    def __init__(
        self,
        handler: Callable[[Any, list[bytes]], None] | None = None,
        *,
        decode: Callable[[Any, list[bytes]], type_Header | None] | None = None,
        store: Callable[[Any, type_Header, bytes], None] | None = None,
    ) -> None:
        self.handler = handler
        self.decode = decode
        self.store = store
