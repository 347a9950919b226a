"""What the nodes of a group should have in common, and what becomes of it where they do not.

Each says in HELLO how it is. Where that decides what can be promised, all are as the weakest one
that was met: what is too large for one is refused by all, and all wait as long as the most
patient one, since nobody may go on alone while another one's lease runs. The rest makes a
difference to clients, who may be led to either node: it is said in the log, and shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config import Settings
    from .messages import Hello

#: `-I` of nobody is less.
ITEM_SIZE_MAX_LOWEST_BYTES: Final = 1 << 10
#: Of what HELLO says of one option.
_WORD_MAX_CHARACTERS: Final = 64
WITNESS: Final = "--witness"


def manners_of(settings: Settings) -> dict[str, str]:
    """Return by option what clients of a node notice of its settings, in words without blanks."""
    text_login = "none" if settings.auth_file is None else "text"
    return {
        "--replication-ack": settings.replication_ack,
        "-M": _yes(settings.disable_evictions),
        "-F": _yes(settings.disable_flush_all),
        "-B": settings.protocol,
        "-S/-Y": "sasl" if settings.enable_sasl else text_login,
        "-Z": _yes(settings.enable_ssl),
        WITNESS: _kind_of_witness(settings),
        "--couchbase": _yes(settings.couchbase is not None),
    }


def has_witness(hello: Hello) -> bool:
    """Return whether a node goes on with votes only."""
    return hello.manners.get(WITNESS, _yes(False)) != _yes(False)


def differences(mine: Hello, theirs: Hello) -> Iterator[tuple[str, str, str]]:
    """Yield what is not alike: an option, how it is here, and how it is there.

    What one of the two does not say is not compared.
    """
    for option, here, there in (
        ("-I", mine.item_size_max, theirs.item_size_max),
        ("--replication-ack-timeout", mine.ack_timeout_ms, theirs.ack_timeout_ms),
    ):
        if there and here != there:
            yield option, str(here), str(there)
    for option, word in mine.manners.items():
        if theirs.manners.get(option, word) != word:
            yield option, word, theirs.manners[option]


#: What follows from a difference, for the log.
CONSEQUENCES = {
    "-I": "bytes of key and value are the largest item; what is too large for one is refused by"
    " both",
    "--replication-ack-timeout": "milliseconds; both wait for the longer one",
}
ELSE = "clients are answered differently by the two"


def _kind_of_witness(settings: Settings) -> str:
    etcd = settings.etcd
    if etcd is None:
        return _yes(settings.witness is not None)
    return f"etcd:{etcd.prefix}"[:_WORD_MAX_CHARACTERS]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
