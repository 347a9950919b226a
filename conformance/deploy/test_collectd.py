"""collectd's memcached plugin reads pymcd's statistics as it reads memcached's."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance.servers import ROOT
from conformance.trial import until

from .install import program, root

if TYPE_CHECKING:
    from conformance.conftest import Servers
    from conformance.servers import Server

pytestmark = pytest.mark.skipif(
    program("collectd") is None,
    reason="no collectd; `python -m conformance.deploy.install` fetches it",
)

DOCUMENTED = ROOT / "docs" / "deploy" / "collectd" / "pymcd.conf"
CONFIGURATION = """\
Hostname "here"
BaseDir "{folder}"
PIDFile "{folder}/pid"
PluginDir "{plugins}"
TypesDB "{types}"
Interval 1
LoadPlugin logfile
LoadPlugin csv
<Plugin logfile>
    LogLevel info
    File "{folder}/log"
    Timestamp false
</Plugin>
<Plugin csv>
    DataDir "{folder}/csv"
</Plugin>
Include "{folder}/pymcd.conf"
"""


def there(path: str) -> Path:
    """Return where that was fetched to, or is installed."""
    fetched = root() / path
    return fetched if fetched.exists() else Path("/") / path


def collect(server: Server, folder: Path) -> dict[str, list[float]]:
    """Return the latest values that collectd has of a server, by what it calls them."""
    plugin = DOCUMENTED.read_text()
    assert 'Port "11211"' in plugin
    (folder / "pymcd.conf").write_text(plugin.replace("11211", str(server.port)))
    configuration = folder / "collectd.conf"
    configuration.write_text(
        CONFIGURATION.format(
            folder=folder,
            plugins=there("usr/lib/collectd"),
            types=there("usr/share/collectd/types.db"),
        )
    )
    process = subprocess.Popen(
        [str(program("collectd")), "-f", "-C", str(configuration)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until("collectd has values", lambda: len(values(folder)) > 15)
    finally:
        process.terminate()
        process.wait(30)
    assert not re.search("fail|error|invalid|unable", (folder / "log").read_text(), re.IGNORECASE)
    return values(folder)


def values(folder: Path) -> dict[str, list[float]]:
    found = {}
    for path in (folder / "csv").glob("here/memcached-pymcd/*"):
        lines = path.read_text().splitlines()
        if len(lines) > 1 and "nan" not in lines[-1]:
            name = path.name.removesuffix(time.strftime("-%Y-%m-%d", time.gmtime()))
            found[name] = [float(value) for value in lines[-1].split(",")[1:]]
    return found


def test_collectd_reads_the_same(
    servers: Servers, reference: tuple[str, ...], subject: tuple[str, ...], tmp_path: Path
) -> None:
    found: list[dict[str, list[float]]] = []
    for command in (reference, subject):
        server = servers.get(command, (), fresh=True)
        server.tell(b"set a 0 0 1\r\nx\r\n" * 3 + b"get a\r\nget b\r\n")
        folder = tmp_path / str(len(found))
        folder.mkdir()
        found.append(collect(server, folder))
    real, ours = found
    assert ours.keys() == real.keys()
    for name in ("memcached_items-current", "memcached_connections-current", "df-cache"):
        assert len(ours[name]) == len(real[name])
    assert ours["memcached_items-current"] == real["memcached_items-current"] == [1.0]
