"""A certificate authority for one test, and the server's certificate, in files of their own."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import shutil
import weakref
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, TypeVar

from . import openssl
from .plan import CommonPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

PlanT = TypeVar("PlanT", bound=CommonPlan)


class Certificates:
    """The files of `tls=True`."""

    def __init__(self, host: str) -> None:
        """Make a certificate for that host, and for localhost."""
        authority, chain, key = _made(*dict.fromkeys([host, "localhost"]))
        folder = Path(mkdtemp(prefix="pymcd-testing-"))
        #: Called at the end of the process, if not before.
        self._remove = weakref.finalize(self, _remove, folder, os.getpid())
        self.ca_file = str(folder / "ca.pem")
        self._chain_file = str(folder / "chain.pem")
        self._key_file = str(folder / "key.pem")
        Path(self.ca_file).write_bytes(authority)
        Path(self._chain_file).write_bytes(chain)
        Path(self._key_file).write_bytes(key)

    def add_to(self, plan: PlanT) -> PlanT:
        """Return the plan with these files in the place of `tls=True`."""
        return dataclasses.replace(plan, tls=(self._chain_file, self._key_file))

    def remove(self) -> None:
        """Delete the files."""
        self._remove()


def _made(*names: str) -> tuple[bytes, bytes, bytes]:
    """Return an authority's certificate, and a chain and a key for these names, in PEM."""
    try:
        import trustme
    except ImportError:
        return _made_by_openssl(*names)
    with _real_dates():
        authority = trustme.CA()
        certificate = authority.issue_cert(*names)
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    return authority.cert_pem.bytes(), chain, certificate.private_key_pem.bytes()


def _made_by_openssl(*names: str) -> tuple[bytes, bytes, bytes]:
    try:
        authority = openssl.Authority()
        key, chain = authority.issue(*names)
    except openssl.OpensslError as error:
        raise RuntimeError(
            "tls=True makes a certificate with the package trustme, which is not installed, or"
            f" with the command openssl ({error}); install one of them,"
            ' or write tls=("chain.pem", "key.pem")'
        ) from None
    return authority.certificate, chain, key


@contextmanager
def _real_dates() -> Iterator[None]:
    """Have `datetime.datetime` be itself for a moment, while freezegun has replaced it.

    The package cryptography, which makes certificates, keeps the class that it finds there when it
    is first used: if that is freezegun's it refuses, from then on, what is not of that class.
    """
    module: Any = dt
    shown = module.datetime
    module.datetime = next(each for each in shown.__mro__ if each.__module__ == "datetime")
    try:
        yield
    finally:
        module.datetime = shown


def _remove(folder: Path, process: int) -> None:
    # Not in a forked child, whose parent's they are.
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
