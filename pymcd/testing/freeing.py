"""How what a fake is made of is freed at once, when it is no more.

The parts of a server all know each other, so none is freed with the last who knows it, but when
the garbage collector comes by. That walks through all that a run of tests has loaded, and the
servers of a thousand tests let it do so often: a third of what it costs to start and stop one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..service import Service


def take_apart(service: Service) -> None:
    """Have all parts of a service be freed that nobody else knows; it is of no use any more."""
    cache = service.cache
    for slab_class in cache.slabs:
        for segment in slab_class.segments:
            if segment.head is not None:
                for item in list(segment):
                    item.prev = item.next = None
                segment.head = segment.tail = None
            del segment.fresh
        vars(slab_class).clear()
    vars(service).clear()
    for name in cache.__slots__:
        delattr(cache, name)
