"""twemproxy, between pymemcache and the server: it has one connection for all of its clients."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from pymemcache.client.base import Client

from ..checks import ADDRESS, HOST, Checks, narrow

PROGRAM = shutil.which("nutcracker", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
PORT = 22121
CONFIGURATION = f"""\
pool:
  listen: {HOST}:{PORT}
  timeout: 5000
  server_retry_timeout: 500
  server_connections: 1
  servers:
   - {ADDRESS}:1
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "nutcracker.yml"
        file.write_text(CONFIGURATION)
        assert PROGRAM is not None
        proxy = subprocess.Popen(
            [PROGRAM, "-c", file, "-o", Path(folder) / "log", "-a", HOST, "-s", str(PORT + 1)]
        )
        try:
            _listens()
            client = Client((HOST, PORT), default_noreply=False, timeout=20, connect_timeout=20)
            narrow(Checks("twemproxy"), client.set, client.get)
        finally:
            proxy.kill()
            proxy.wait()


def _listens() -> None:
    for _ in range(1000):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, PORT)) == 0:
                return
        time.sleep(0.01)


main()
