"""What a test wants of a server: the arguments of the constructors, checked and in one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLOCKS = ("real", "frozen")
PROTOCOLS = ("auto", "ascii", "binary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a fake shall be."""

    host: str = "127.0.0.1"
    port: int = 0
    unix_socket: str | None = None
    memory_limit: int = 64
    max_item_size: int = 1 << 20
    protocol: str = "auto"
    users: Mapping[str, str] | None = None
    #: True, or the files of the certificate chain and of its key.
    tls: bool | tuple[str, str] | None = None
    clock: str = "real"
    options: Sequence[str] = ()


def make_plan(
    *,
    host: str,
    port: int,
    unix_socket: str | None,
    memory_limit: int,
    max_item_size: int,
    protocol: str,
    users: Mapping[str, str] | None,
    tls: bool | tuple[str, str] | None,
    clock: str,
    options: Sequence[str],
) -> Plan:
    """Return the plan; raise `ValueError` or `TypeError` with what to write instead."""
    if clock not in CLOCKS:
        raise ValueError(f'clock={clock!r}: write clock="real" or clock="frozen"')
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r}: write one of {', '.join(PROTOCOLS)}")
    if isinstance(options, str):
        raise TypeError(f"options={options!r}: write a list of words, {options.split()!r}")
    if not isinstance(memory_limit, int) or memory_limit < 1:
        raise ValueError(f"memory_limit={memory_limit!r}: it is in whole megabytes, as -m")
    if users is not None and not users:
        raise ValueError('users={}: nobody could log in; write users={"name": "password"}')
    if not isinstance(tls, bool | None) and not (isinstance(tls, tuple) and len(tls) == 2):
        raise ValueError(f'tls={tls!r}: write tls=True, or tls=("chain.pem", "key.pem")')
    return Plan(
        host=host,
        port=port,
        unix_socket=unix_socket,
        memory_limit=memory_limit,
        max_item_size=max_item_size,
        protocol=protocol,
        users=None if users is None else dict(users),
        tls=tls or None,
        clock=clock,
        options=tuple(options),
    )
