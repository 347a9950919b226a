"""A host and a port as people write them: `HOST`, `HOST:PORT`, `V6`, `[V6]`, `[V6]:PORT`.

Owns that form alone. Which port is meant where none is written, whether `*` or port 0 may stand
there, and who is to blame for a bad address, is for whoever reads it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

PORT_MAX: Final = 65535


class AddressError(ValueError):
    """What is no address, and why. `port` is what stands where a port should."""

    def __init__(self, reason: str, port: str | None = None) -> None:
        super().__init__(reason)
        self.port = port


class Address(NamedTuple):
    """A host and a port. `host` None is every interface."""

    host: str | None
    port: int

    def __str__(self) -> str:
        return join_address(self.host or "*", self.port)


def join_address(host: str, port: int) -> str:
    """Return a host and a port as one word."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(text: str) -> tuple[str, int | None]:
    """Return the host, which may be empty, and the port, None where none is written.

    Raises `AddressError`.
    """
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise AddressError("an IPv6 address is written [ADDRESS]:PORT")
        return host, _port(rest[1:]) if rest else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, _port(port)
    # No colon, or an IPv6 address without brackets, which cannot have a port.
    return text, None


def _port(text: str) -> int:
    # More digits would only cost time, up to a limit of Python's.
    if text.isascii() and text.isdigit() and len(text) <= 9 and int(text) <= PORT_MAX:
        return int(text)
    raise AddressError(f"{text!r} is no port number", text)
