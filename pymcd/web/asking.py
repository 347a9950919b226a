"""One client that asks for pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .conversation import Conversation, decode_path

if TYPE_CHECKING:
    import h11

    from .pages import Page, Pages


class PageConversation(Conversation):
    """One connection of a client that asks for pages.

    A page is made part by part: as long as `asked`, call `go_on` for the next part. That returns
    the answer when it is whole, so that its length is known before.
    """

    def __init__(self, pages: Pages) -> None:
        super().__init__((b"GET", b"HEAD"))
        self._pages = pages
        self._page: Page | None = None
        self._body: list[bytes] = []

    @property
    def asked(self) -> bool:
        return self._page is not None

    def go_on(self) -> bytes:
        if self._page is None:
            return super().go_on()
        part = next(self._parts, None)
        if part is not None:
            self._body.append(part)
            return b""
        page, self._page = self._page, None
        body, self._body = b"".join(self._body), []
        return self.say(page.status, kind=page.kind, body=body)

    def _take(self, request: h11.Request) -> bytes:
        self._page = self._pages.find(decode_path(request.target))
        self._parts = iter(self._page.parts)
        return b""
