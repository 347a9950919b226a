"""A thousand tests, each with a server of its own, in two processes: none disturbs another."""

from __future__ import annotations

import pytest

from .running import RUN_TIMEOUT_S, counts, run_pytest

TESTS = """
import pytest
import socket

@pytest.mark.parametrize("number", range(1000))
def test_alone(memcached_server, number):
    assert memcached_server.items() == {}
    with socket.create_connection(memcached_server.address) as client:
        client.sendall(b"add lock 0 60 4\\r\\n%04d\\r\\nget lock\\r\\n" % number)
        with client.makefile("rb") as replies:
            assert replies.readline() == b"STORED\\r\\n"
            assert replies.readline() == b"VALUE lock 0 4\\r\\n"
            assert replies.readline() == b"%04d\\r\\n" % number
    memcached_server.advance(61)
    assert memcached_server.items() == {}
    assert [str(call) for call in memcached_server.calls] == ["add lock", "get lock"]
"""


@pytest.mark.slow
@pytest.mark.timeout(RUN_TIMEOUT_S)
def test_a_thousand_tests_in_two_processes(tmp_path):
    pytest.importorskip("xdist")
    (tmp_path / "test_many.py").write_text(TESTS)
    assert counts(run_pytest(tmp_path, "-n", "2")) == {"passed": 1000}
