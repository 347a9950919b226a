"""One client that asks for pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .conversation import Conversation, decode_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h11

    from .pages import Page, Pages


class PageConversation(Conversation):
    """One connection of a client that asks for pages.

    A large page is made part by part: as long as `asked`, call `go_on` for the next part. That
    returns the answer when it is whole, so that its length is known before.
    """

    def __init__(self, pages: Pages) -> None:
        super().__init__((b"GET", b"HEAD"))
        self._pages = pages
        #: What is being made, its parts to come, and those that there are.
        self._made: tuple[Page, Iterator[bytes], list[bytes]] | None = None

    @property
    def asked(self) -> bool:
        return self._made is not None

    def go_on(self) -> bytes:
        if self._made is None:
            return super().go_on()
        page, to_come, parts = self._made
        part = next(to_come, None)
        if part is not None:
            parts.append(part)
            return b""
        self._made = None
        return self.say(page.status, kind=page.kind, body=b"".join(parts))

    def _take(self, request: h11.Request) -> bytes:
        page = self._pages.find(decode_path(request.target))
        if isinstance(page.body, bytes):
            return self.say(page.status, kind=page.kind, body=page.body)
        self._made = page, page.body, []
        return b""
