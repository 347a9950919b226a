"""How the servers are set up for clients: plainly, with logins, with TLS.

Both servers get the same switches, environment and files. Users for SASL are written twice: as
lines (`MEMCACHED_SASL_PWDB`) and as the database of Cyrus SASL, because a memcached reads the one
or the other depending on how it was built.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

USER = "foo"
PASSWORD = "bar"

#: In "narrow" servers and clients are where no packet has more than a packet of Ethernet: what is
#: large arrives piece by piece, as it does not on the loopback.
SETUPS: dict[str, tuple[str, ...]] = {
    "plain": ("-m", "256"),
    "narrow": ("-m", "256"),
    "sasl": ("-m", "256", "-S"),
    "auth": ("-m", "256", "-Y", "{users}"),
    "tls": ("-m", "256", "-Z", "-o", "ssl_chain_cert={chain},ssl_key={key}"),
}


class Files:
    """The files that servers and clients share during one run."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-clients-")
        self.root = Path(self._folder.name)
        # Servers read here after they gave up root.
        self.root.chmod(0o755)
        self.users = self.root / "users"
        self.users.write_text(f"{USER}:{PASSWORD}\n")
        self.users.chmod(0o644)
        self.sasl = self.root / "sasl"
        self.sasl.mkdir(mode=0o755)
        database = self.sasl / "sasldb2"
        (self.sasl / "memcached.conf").write_text(
            "mech_list: plain cram-md5 scram-sha-1 scram-sha-256\n"
            "pwcheck_method: auxprop\nauxprop_plugin: sasldb\n"
            f"sasldb_path: {database}\n"
        )
        if program := shutil.which("saslpasswd2", path="/usr/sbin:/usr/bin"):
            subprocess.run(
                [
                    program,
                    "-pc",
                    "-a",
                    "memcached",
                    "-f",
                    database,
                    "-u",
                    socket.gethostname(),
                    USER,
                ],
                input=PASSWORD.encode(),
                check=True,
            )
            database.chmod(0o644)
        self.chain = self.root / "chain.pem"
        self.key = self.root / "key.pem"
        self.ca = self.root / "ca.pem"

    @property
    def has_sasl_users(self) -> bool:
        """Whether a memcached that asks Cyrus SASL finds our user."""
        return (self.sasl / "sasldb2").exists()

    def make_certificates(self) -> None:
        """Write a certificate authority and a server's certificate, once."""
        if self.chain.exists():
            return
        import trustme

        authority = trustme.CA()
        server = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(self.ca)
        for blob in server.cert_chain_pems:
            blob.write_to_path(self.chain, append=True)
        server.private_key_pem.write_to_path(self.key)
        self.key.chmod(0o644)

    def switches(self, setup: str) -> list[str]:
        """Return the switches of a server with that setup."""
        if setup == "tls":
            self.make_certificates()
        names = {"users": self.users, "chain": self.chain, "key": self.key}
        return [each.format(**names) if "{" in each else each for each in SETUPS[setup]]

    def server_environment(self, setup: str) -> dict[str, str]:
        """Return what a server with that setup finds in its environment."""
        if setup != "sasl":
            return {}
        return {"SASL_CONF_PATH": str(self.sasl), "MEMCACHED_SASL_PWDB": str(self.users)}

    def client_environment(self, setup: str, port: int) -> dict[str, str]:
        """Return what a program needs to know of the server it talks to."""
        return {
            "MEMCACHED_HOST": "127.0.0.1",
            "MEMCACHED_PORT": str(port),
            "MEMCACHED_SETUP": setup,
            "MEMCACHED_USER": USER,
            "MEMCACHED_PASSWORD": PASSWORD,
            "MEMCACHED_CA": str(self.ca) if setup == "tls" else "",
        }

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
