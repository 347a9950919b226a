"""Certificates made by the command `openssl`, for where the package trustme is not to be had.

That is on interpreters for which nobody builds what trustme needs, such as PyPy. What is made lasts
for a test, and is written to no place but the folder given.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

_DAYS = 365
#: For the few commands below, which take from it what they need; so none reads the system's.
_CONFIG = """\
[req]
distinguished_name = nobody
prompt = no
[nobody]
O = pymcd.testing
CN = {name}
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:false
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


class OpensslError(Exception):
    """There is no command `openssl`, or it failed."""


class Authority:
    """A certificate authority: what clients trust, and what signs certificates."""

    def __init__(self) -> None:
        """Make its key and its certificate.

        Raises:
            OpensslError: it cannot be made here.
        """
        with TemporaryDirectory(prefix="pymcd-testing-") as folder:
            command = _Openssl(Path(folder), "authority")
            command.request("EC")
            command.run("x509", "-req", "-signkey", "key.pem", *_signed("authority", _DAYS))
            self._key = command.read("key.pem")
            self.certificate = command.read("certificate.pem")  #: in PEM

    def issue(self, *names: str, kind: str = "EC", days: int = _DAYS) -> tuple[bytes, bytes]:
        """Return a new key and its certificate, both in PEM.

        Args:
            names: Of hosts, IP addresses, or people by their mail's.
            kind: Of the key: "EC" or "RSA".
            days: How long it is valid; with 0 it is not any more when it comes.

        Raises:
            OpensslError: it cannot be made here.
        """
        with TemporaryDirectory(prefix="pymcd-testing-") as folder:
            command = _Openssl(Path(folder), ", ".join(map(_typed, names)))
            command.write("ca.key", self._key)
            command.write("ca.pem", self.certificate)
            command.request(kind)
            number = f"0x{os.urandom(16).hex()}"
            by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", number)
            command.run("x509", "-req", *by, *_signed("leaf", days))
            return command.read("key.pem"), command.read("certificate.pem")


class _Openssl:
    """The command, which works on the files of one folder."""

    def __init__(self, folder: Path, names: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            raise OpensslError("there is no command openssl")
        self._program = program
        self._folder = folder
        # Each has a name of its own: an authority is found by it.
        self.write("config", _CONFIG.format(name=os.urandom(8).hex(), names=names).encode())

    def request(self, kind: str) -> None:
        """Make a key, and a request to sign it."""
        of_kind = {
            "EC": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            "RSA": ("-newkey", "rsa:2048"),
        }[kind]
        files = ("-keyout", "key.pem", "-out", "request.pem")
        self.run("req", "-new", "-config", "config", "-nodes", "-sha256", *of_kind, *files)

    def run(self, *words: str) -> None:
        done = subprocess.run(
            [self._program, *words],
            cwd=self._folder,
            env=os.environ | {"RANDFILE": str(self._folder / "random")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OpensslError(f"openssl {words[0]}: {done.stdout.strip()}")

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        (self._folder / name).write_bytes(content)


def _signed(section: str, days: int) -> tuple[str, ...]:
    """Return the words for what signs the request, with the extensions of a section."""
    extensions = ("-extfile", "config", "-extensions", section)
    files = ("-in", "request.pem", "-out", "certificate.pem")
    return ("-sha256", "-days", str(days), *extensions, *files)


def _typed(name: str) -> str:
    if "@" in name:
        return f"email:{name}"
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"
