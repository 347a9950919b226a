"""Slab classes, pages and the memory limit: arithmetic only, there is no memory here.

memcached cuts pages of 1 MB into chunks of equal size, one size a class, and gives each item
a chunk of the smallest class that it fits. Python allocates its own objects; what is
reproduced here is the accounting, so that `-m`, evictions and `stats slabs` agree with the
original. A page belongs to one class, or to the global pool of free pages, from which any
class may take. Knows nothing of items; what a class is stands in `item`, beside its segments.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING

from .. import limits
from .item import SlabClass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..config import Settings


def chunk_sizes(settings: Settings) -> list[int]:
    """Return the chunk sizes in bytes, ascending. # memcached: slabs_init

    Each is `slab_growth_factor` times the one before, rounded up to 8; the last is
    `slab_chunk_max_bytes`.
    """
    factor, largest = settings.slab_growth_factor, settings.slab_chunk_max_bytes
    sizes: list[int] = []
    if settings.slab_sizes is not None:
        sizes = [_aligned(size) for size in settings.slab_sizes[: limits.SLAB_CLASSES_MAX - 1]]
    else:
        size = limits.ITEM_HEADER_BYTES + settings.slab_min_size_bytes
        while len(sizes) < limits.SLAB_CLASSES_MAX - 1 and size < largest / factor:
            size = _aligned(size)
            sizes.append(size)
            size = int(size * factor)
    return [*sizes, largest]


def _aligned(size: int) -> int:
    return size + -size % limits.SLAB_CHUNK_ALIGN_BYTES


class Slabs:
    """All classes of one server, and the pages they share."""

    def __init__(self, settings: Settings) -> None:
        self.limit_bytes = settings.memory_limit_bytes  #: 0: none
        self.lent_bytes = 0  #: of that, to what is in no item
        #: What items take beside their chunks, where that counts.
        self.beside_bytes: Callable[[], int] = lambda: 0
        self.item_size_max_bytes = settings.item_size_max_bytes
        self.sizes = chunk_sizes(settings)
        self.chunk_max_bytes = self.sizes[-1]
        self.classes: list[SlabClass] = [
            SlabClass(number, below + 1, size)
            for number, (below, size) in enumerate(pairwise([0, *self.sizes]), start=1)
        ]
        if self.chunk_max_bytes == limits.SLAB_PAGE_BYTES and not settings.slab_reassign:
            # Pages that are never to change their class end with the last chunk that fits.
            # memcached: do_slabs_newslab
            for slab_class in self.classes:
                slab_class.page_bytes = slab_class.chunk_size_bytes * slab_class.chunks_per_page
        self.free_pages = 0  #: in the global pool
        self.malloced_pages = 0  #: in classes and pool together
        self.malloced_bytes = 0  #: the same; pages in the pool are whole ones
        self.moved_pages = 0  #: `slabs_moved`
        #: Whether the system has as much as a page; the host knows.
        self.has_room: Callable[[], bool] = lambda: True

    def __iter__(self) -> Iterator[SlabClass]:
        return iter(self.classes)

    def by_id(self, class_id: int) -> SlabClass | None:
        """Return the class of that number, from 1, or None."""
        return self.classes[class_id - 1] if 1 <= class_id <= len(self.classes) else None

    def class_for(self, size_bytes: int) -> SlabClass | None:
        """Return the class that links an item of this size, or None where `-I` forbids it.

        An item larger than a chunk belongs to the largest class. O(log classes).
        """
        if size_bytes > self.item_size_max_bytes:
            return None
        if size_bytes > self.chunk_max_bytes:
            return self.classes[-1]
        return self.classes[bisect_left(self.sizes, size_bytes)]

    def chunk_classes(self, header_bytes: int, data_bytes: int) -> tuple[SlabClass, ...]:
        """Return the classes of all chunks of a large item. # memcached: do_item_alloc_chunk

        The first is that of its header, then come full chunks, and one that fits the rest.
        """
        chunk_header = limits.ITEM_CHUNK_HEADER_BYTES
        # What an item really costs may be more than the largest chunk, where that is small.
        header = min(header_bytes + chunk_header, self.chunk_max_bytes)
        chunks = [self.classes[bisect_left(self.sizes, header)]]
        while data_bytes > 0:
            size = min(data_bytes + chunk_header, self.chunk_max_bytes)
            chunks.append(self.classes[bisect_left(self.sizes, size)])
            data_bytes -= size - chunk_header
        return tuple(chunks)

    def take_chunk(self, slab_class: SlabClass) -> bool:
        """Use one chunk; take a page for the class if it must and may. False: there is none."""
        if slab_class.free_chunks == 0 and not self._take_page(slab_class):
            return False
        slab_class.free_chunks -= 1
        return True

    def _take_page(self, slab_class: SlabClass) -> bool:
        if self.free_pages:
            self.give_page(slab_class)
            return True
        # A class may always take its first page, even over the limit.
        # memcached: do_slabs_newslab
        taken_bytes = self.malloced_bytes + self.lent_bytes + self.beside_bytes()
        wanted_bytes = taken_bytes + slab_class.page_bytes
        if slab_class.pages > 0 and (
            (self.limit_bytes and wanted_bytes > self.limit_bytes) or not self.has_room()
        ):
            return False
        self.malloced_pages += 1
        self.malloced_bytes += slab_class.page_bytes
        slab_class.pages += 1
        slab_class.free_chunks += slab_class.chunks_per_page
        return True

    def release_page(self, slab_class: SlabClass) -> None:
        """Move a page of which no chunk is used from its class to the global pool."""
        assert slab_class.pages > 0
        assert slab_class.free_chunks >= slab_class.chunks_per_page
        slab_class.pages -= 1
        slab_class.free_chunks -= slab_class.chunks_per_page
        self.free_pages += 1
        self.malloced_bytes += limits.SLAB_PAGE_BYTES - slab_class.page_bytes

    def give_page(self, slab_class: SlabClass) -> None:
        """Move a page from the global pool to a class."""
        assert self.free_pages > 0
        self.free_pages -= 1
        self.malloced_bytes -= limits.SLAB_PAGE_BYTES - slab_class.page_bytes
        slab_class.pages += 1
        slab_class.free_chunks += slab_class.chunks_per_page

    @property
    def is_over_limit(self) -> bool:
        """Whether pages are held for which there is no room any more."""
        taken_bytes = self.malloced_bytes + self.lent_bytes + self.beside_bytes()
        return 0 < self.limit_bytes < taken_bytes

    def shrink_pool(self) -> None:
        """Give pooled pages back to the system while over the limit."""
        while self.free_pages and self.is_over_limit:
            self.free_pages -= 1
            self.malloced_pages -= 1
            self.malloced_bytes -= limits.SLAB_PAGE_BYTES

    def check(self) -> None:
        """Raise AssertionError unless pages and chunks add up. For tests."""
        assert self.free_pages >= 0
        in_classes = sum(slab_class.pages for slab_class in self.classes)
        assert in_classes + self.free_pages == self.malloced_pages, self.classes
        assert self.malloced_bytes == self.free_pages * limits.SLAB_PAGE_BYTES + sum(
            slab_class.pages * slab_class.page_bytes for slab_class in self.classes
        )
        for slab_class in self.classes:
            assert 0 <= slab_class.free_chunks <= slab_class.total_chunks, slab_class
            for segment in slab_class.segments:
                segment.check()
