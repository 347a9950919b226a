"""The protocols: bytes in, calls on the store, bytes out. No socket, task or clock here."""

from .connection import Connection
from .executor import Executor
from .paired import PairedConnection

__all__ = ["Connection", "Executor", "PairedConnection"]
