"""The protocols: bytes in, calls on the store, bytes out. No socket, no task; time is handed in."""

from .connection import Connection
from .executor import Executor
from .paired import PairedConnection

__all__ = ["Connection", "Executor", "PairedConnection"]
