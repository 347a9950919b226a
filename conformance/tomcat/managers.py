"""The session manager's attributes, as context.xml has them, for the set-ups that are tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.pair.ways import PASSWORD, USER

if TYPE_CHECKING:
    from conformance.pair.ways import Way

#: Sessions are stored before the answer goes out: only then somebody knows that they are.
SYNCHRONOUS = {"sessionBackupAsync": False, "sessionBackupTimeout": 100}


def sticky(nodes: str, **more: object) -> dict[str, object]:
    """Return the attributes of a manager for users who stay at their Tomcat."""
    return {"memcachedNodes": nodes, "sticky": True, **SYNCHRONOUS, **more}


def non_sticky(nodes: str, locking: str, **more: object) -> dict[str, object]:
    """Return the attributes of a manager for users who may go to any Tomcat."""
    return {
        "memcachedNodes": nodes,
        "sticky": False,
        "lockingMode": locking,
        **SYNCHRONOUS,
        **more,
    }


def access(way: Way) -> dict[str, object]:
    """Return the attributes with which a manager is let in."""
    if way.login is None:
        return {}
    return {"memcachedProtocol": "binary", "username": USER, "password": PASSWORD}
