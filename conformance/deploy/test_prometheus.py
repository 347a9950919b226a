"""Prometheus reads our metrics, and our alerts go off when they should."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest

from conformance.pair.nodes import Pair
from conformance.servers import PYMCD, ROOT, Server
from conformance.trial import free_port
from tests.papers.blocks import DOCS, block

from .install import program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = ROOT / "docs" / "deploy" / "prometheus"

pytestmark = pytest.mark.skipif(
    program("promtool") is None,
    reason="no promtool; `python -m conformance.deploy.install` fetches it",
)


def promtool(*words: str, said: str = "") -> None:
    done = subprocess.run(
        [str(program("promtool")), *words],
        cwd=FOLDER,
        input=said,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_rules_are_rules() -> None:
    promtool("check", "rules", "pymcd.rules.yml")


def test_who_copies_the_page_has_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(block(DOCS / "monitoring.md", "Prometheus", "/etc/prometheus/prometheus.yml"))
    promtool("check", "config", str(file))


def test_alerts_go_off_when_they_should() -> None:
    promtool("test", "rules", "pymcd.rules.test.yml")


def test_what_alerts_are_about_is_there() -> None:
    """With a witness a pair has everything to tell of."""
    rules = (FOLDER / "pymcd.rules.yml").read_text()
    named = set(re.findall(r"\b(?:memcached|pymcd)_\w+", " ".join(re.findall(r"expr: .*", rules))))
    port = free_port()
    http = ("--http", f"127.0.0.1:{port}")
    with Pair(options=("--witness", "127.0.0.1:1"), own={0: http}) as pair:
        pair.wait_in_sync()
        text = told(pair.nodes[0], port)
    assert named <= set(re.findall(r"^(\w+)", text, re.MULTILINE))


@pytest.fixture(params=["alone", "in a pair"])
def metrics(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give what a server tells Prometheus that has something to tell."""
    port = free_port()
    switches = ("--http", f"127.0.0.1:{port}")
    if request.param == "alone":
        with Server(PYMCD, switches) as server:
            yield told(server, port)
    else:
        with Pair(own={0: switches}) as pair:
            pair.wait_in_sync()
            yield told(pair.nodes[0], port)


def told(server: Server, port: int) -> str:
    server.tell(b"set a 0 0 1\r\nx\r\nget a\r\nget b\r\ntouch a 10\r\nincr a 1\r\ndelete a\r\n")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def test_metrics_are_metrics(metrics: str) -> None:
    promtool("check", "metrics", said=metrics)
