"""Keys, values, expiry, memory and versions. Knows no protocol, socket, task or peer."""

from .cache import Cache
from .item import Item
from .status import Status, StoreMode

__all__ = ["Cache", "Item", "Status", "StoreMode"]
