"""The protocols: bytes in, calls on the store, bytes out. No socket, task or clock here."""

from .connection import Connection
from .paired import Executor, PairedConnection
from .service import Service

__all__ = ["Connection", "Executor", "PairedConnection", "Service"]
