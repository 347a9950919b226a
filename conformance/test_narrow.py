"""Values that arrive in pieces, and are refused: as on memcached, nothing is said before the end.

What clients make of an answer that comes too early is a trial of its own: `test_foreign_clients`,
setup "narrow".
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from . import narrow
from .servers import Server

#: What is sent in two pieces, with a pause between them; prints what was answered to each.
PROGRAM = """
import json, socket, sys
port, head, rest = int(sys.argv[1]), *map(bytes.fromhex, sys.stdin.read().split())
stream = socket.create_connection(("127.0.0.1", port))
answers = []
for data, patience_s in ((head, 0.3), (rest, 5.0)):
    stream.sendall(data)
    stream.settimeout(patience_s)
    answer = b""
    try:
        while b"END\\r\\n" not in answer:
            more = stream.recv(4096)
            if not more:
                break
            answer += more
    except TimeoutError:
        pass
    answers.append(answer.decode("latin-1"))
print(json.dumps(answers))
"""
VALUE_BYTES = 1_100_000
BEGUN_BYTES = 14_000


def _binary_set() -> bytes:
    head = b"\x80\x01\0\x03\x08" + bytes(3) + (VALUE_BYTES + 11).to_bytes(4) + bytes(12)
    return head + bytes(8) + b"big"


FORMS = {
    "set": b"set big 0 0 %d\r\n" % VALUE_BYTES,
    "append": b"append big 0 0 %d\r\n" % VALUE_BYTES,
    "cas": b"cas big 0 0 %d 1\r\n" % VALUE_BYTES,
    "ms": b"ms big %d\r\n" % VALUE_BYTES,
    "ms with a wrong mode": b"ms big %d MZ\r\n" % VALUE_BYTES,
    "binary": _binary_set(),
}


@pytest.mark.skipif(bool(narrow.why_not()), reason=narrow.why_not())
def test_a_refused_value_is_answered_when_it_has_arrived(subject, reference_or_none):
    with narrow.narrow() as there:
        told = [_answers(there, command) for command in (subject, reference_or_none) if command]
    for name, (early, late) in told[0].items():
        assert early == "", name
        assert late != "", name
    assert all(each == told[0] for each in told)


def _answers(there: tuple[str, ...], command: tuple[str, ...]) -> dict[str, list[str]]:
    found = {}
    with Server([*there, *command]) as server:
        for name, head in FORMS.items():
            rest = b"v" * (VALUE_BYTES - BEGUN_BYTES)
            rest += b"" if name == "binary" else b"\r\nget big\r\n"
            done = subprocess.run(
                [*there, sys.executable, "-c", PROGRAM, str(server.port)],
                input=f"{(head + b'v' * BEGUN_BYTES).hex()} {rest.hex()}",
                capture_output=True,
                text=True,
                check=True,
            )
            found[name] = json.loads(done.stdout)
    return found
