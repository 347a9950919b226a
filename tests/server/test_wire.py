"""A wire by itself: what its socket does not take, TLS from its first byte, and ends."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any, cast

import pytest

from pymcd.config import Settings
from pymcd.replication.link import ADVICE
from pymcd.replication.roles import Data
from pymcd.server.certificates import Certificates
from pymcd.server.wire import _PIECES_MAX, RECEIVE_BYTES, Network, Wire, WireTls

from ..replication.helpers import Group, address_of
from .authority import new_authority, shared_authority

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymcd.replication.link import Link

    from .authority import Authority


class FakeLink:
    """A link without a core: says what it is told to, and remembers what it hears."""

    def __init__(self) -> None:
        self.output: list[bytes] = []
        self.received = b""
        self.closed = False
        self.ends = 0
        self.failures: list[tuple[bytes, str | None]] = []
        self.in_plain = b""

    def receive(self, data: bytes) -> None:
        self.received += data

    def take_output(self) -> list[bytes]:
        output, self.output = self.output, []
        return output

    def tls_failed(self, data: bytes, said: str | None) -> bytes:
        self.failures.append((data, said))
        return self.in_plain

    def disconnected(self) -> None:
        self.closed = True
        self.ends += 1


class End:
    """One wire, its link, and what its owner is told."""

    def __init__(self, sock: socket.socket, tls: WireTls | None = None) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.link = FakeLink()
        self.blocked: list[bool] = []
        self.closed: list[int] = []
        self.complaints: list[str] = []
        self.wire = Wire(
            sock,
            cast("Link", self.link),
            name="peer",
            tls=tls,
            network=Network(),
            on_blocked=lambda wire, blocked: self.blocked.append(blocked),
            on_closed=lambda wire: self.closed.append(wire.sock.fileno()),
            complain=self.complaints.append,
        )

    def say(self, *pieces: bytes) -> None:
        self.link.output += pieces
        self.wire.send()


class Pair:
    """Two ends of one connection. `certificates` are those of the two, where it uses TLS."""

    def __init__(self, *certificates: Certificates) -> None:
        ours, theirs = socket.socketpair()
        self.ours = End(ours, tls_of(certificates[0], accepts=False) if certificates else None)
        self.theirs = End(theirs, tls_of(certificates[1], accepts=True) if certificates else None)

    def exchange(self) -> None:
        """Let both do what their sockets are ready for, until nothing comes any more."""
        for _ in range(20):
            for end in (self.ours, self.theirs):
                if not end.wire.closed:
                    end.wire.ready()
                    end.wire.send()

    def close(self) -> None:
        self.ours.wire.close()
        self.theirs.wire.close()


def certificates_of(authority: Authority) -> Certificates:
    return Certificates(
        Settings(
            peers=("127.0.0.1:1",),
            replication_listen=("127.0.0.1",),
            replication_tls=True,
            ssl_chain_cert=authority.chain_file,
            ssl_key=authority.key_file,
            ssl_ca_cert=authority.ca_file,
        )
    )


def tls_of(certificates: Certificates, *, accepts: bool) -> WireTls:
    context = certificates.context("accepts" if accepts else "dials")
    return WireTls(context, server_side=accepts, data=Data.KEPT)


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    certificates = certificates_of(shared_authority())
    pair = Pair(certificates, certificates) if request.param else Pair()
    yield pair
    pair.close()


@pytest.fixture
def plain() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


@pytest.fixture
def secured() -> Iterator[Pair]:
    certificates = certificates_of(shared_authority())
    pair = Pair(certificates, certificates)
    yield pair
    pair.close()


# -- both ways -----------------------------------------------------------------------------------


def test_what_a_link_says_the_other_hears(pair: Pair) -> None:
    pair.ours.say(b"hel", b"lo")
    pair.theirs.say(b"well", b"come")
    pair.exchange()
    assert pair.theirs.link.received == b"hello"
    assert pair.ours.link.received == b"wellcome"
    assert pair.ours.complaints == pair.theirs.complaints == []
    assert pair.ours.blocked == []


@pytest.mark.parametrize("number", [1, _PIECES_MAX, _PIECES_MAX + 1, 1000])
def test_any_number_of_pieces(pair: Pair, number: int) -> None:
    pieces = [b"%d," % each for each in range(number)]
    pair.ours.say(*pieces)
    pair.exchange()
    assert pair.theirs.link.received == b"".join(pieces)


def test_nothing_to_say_is_nothing_sent(plain: Pair) -> None:
    plain.ours.say()
    plain.theirs.wire.ready()
    assert plain.theirs.link.received == b""
    assert not plain.theirs.wire.closed


def test_what_the_link_is_told_to_push_is_sent_at_once(plain: Pair) -> None:
    plain.ours.link.output.append(b"now")
    plain.ours.link.push()  # type: ignore[attr-defined]
    plain.theirs.wire.ready()
    assert plain.theirs.link.received == b"now"


# -- what the socket does not take -----------------------------------------------------------------


def test_what_the_socket_does_not_take_is_kept(pair: Pair) -> None:
    pair.exchange()
    data = bytes(range(256)) * (1 << 14)  # 4 MB, more than both sockets hold
    pair.ours.say(data[: len(data) // 2], data[len(data) // 2 :])
    assert pair.ours.wire.blocked
    assert pair.ours.blocked == [True]
    # The link is asked for no more: what it says, it keeps, within its own bounds.
    pair.ours.say(b"more")
    assert pair.ours.link.output == [b"more"]
    for _ in range(1000):
        pair.theirs.wire.ready()
        pair.ours.wire.ready()
        pair.ours.wire.send()
    assert pair.theirs.link.received == data + b"more"
    assert pair.ours.link.output == []
    assert pair.ours.blocked == [True, False] * (len(pair.ours.blocked) // 2)


class Miser:
    """A socket that takes a few bytes at a time, and now and then none."""

    def __init__(self, sock: socket.socket, most: int) -> None:
        self._sock = sock
        self._most = most
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def send(self, data: memoryview) -> int:
        self._calls += 1
        if self._calls % 3 == 0:
            raise BlockingIOError
        return self._sock.send(data[: self._most])

    def sendmsg(self, pieces: list[bytes]) -> int:
        return self.send(memoryview(b"".join(pieces)))


@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_short_writes(pair: Pair, most: int) -> None:
    pair.exchange()
    pair.ours.wire.sock = Miser(pair.ours.sock, most)  # type: ignore[assignment]
    said = b""
    for number in range(100):
        pair.ours.say(b"<%d" % number, b">")
        said += b"<%d>" % number
        pair.exchange()
    for _ in range(1000):
        pair.exchange()
        if pair.theirs.link.received == said:
            break
    assert pair.theirs.link.received == said
    assert pair.ours.blocked == [True, False] * (len(pair.ours.blocked) // 2)


def test_one_look_reads_a_bounded_part(plain: Pair) -> None:
    plain.theirs.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    plain.theirs.say(bytes(2 * RECEIVE_BYTES))
    plain.ours.wire.ready()
    assert len(plain.ours.link.received) == RECEIVE_BYTES


def test_not_ready_after_all(pair: Pair) -> None:
    for _ in range(3):
        pair.ours.wire.ready()
    assert not pair.ours.wire.closed
    assert pair.ours.link.received == b""


# -- TLS -------------------------------------------------------------------------------------------


def test_what_is_said_before_the_handshake_waits_for_its_end(secured: Pair) -> None:
    secured.ours.say(b"early ")
    secured.theirs.say(b"also early")
    assert b"early" not in secured.ours.link.received + secured.theirs.link.received
    secured.ours.say(b"and ", b"earlier")
    secured.exchange()
    assert secured.theirs.link.received == b"early and earlier"
    assert secured.ours.link.received == b"also early"


def test_nothing_is_sent_in_the_clear(secured: Pair) -> None:
    secured.ours.say(b"a secret")
    seen = b""
    for _ in range(10):
        seen += secured.theirs.sock.recv(1 << 16, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        secured.theirs.wire.ready()
        secured.theirs.wire.send()
        secured.ours.wire.ready()
        secured.ours.wire.send()
        if secured.theirs.link.received:
            break
    assert secured.theirs.link.received == b"a secret"
    assert seen
    assert b"secret" not in seen


def test_sealed_bytes_in_drips(secured: Pair) -> None:
    """Where a record is cut makes no difference, nor that the handshake's end comes with data."""
    secured.ours.say(b"early")
    for _ in range(20):
        for end, other in ((secured.ours, secured.theirs), (secured.theirs, secured.ours)):
            end.wire.send()
            try:
                sealed = other.sock.recv(1 << 16)
            except BlockingIOError:
                continue
            assert other.wire.tls is not None
            for position in range(len(sealed)):
                data = other.wire.tls.open(sealed[position : position + 1])
                if data:
                    other.link.receive(data)
    assert secured.theirs.link.received == b"early"


@pytest.mark.parametrize(
    ("said", "answer"),
    [(b"get a\r\n", b""), (b"\x16\x03\x01\x00\x05hello", b"\x15")],
    ids=["text", "no handshake"],
)
def test_who_speaks_no_tls_stays_outside(said: bytes, answer: bytes) -> None:
    sock, stranger = socket.socketpair()
    with stranger:
        end = End(sock, tls_of(certificates_of(shared_authority()), accepts=True))
        stranger.send(said)
        end.wire.ready()
        assert end.wire.closed
        (complaint,) = end.complaints
        assert complaint.startswith("TLS handshake with peer failed: ")
        assert stranger.recv(100)[:1] == answer, "an alert where OpenSSL has one"
        assert end.link.ends == 1


def test_who_is_vouched_for_by_others_stays_outside() -> None:
    pair = Pair(certificates_of(new_authority()), certificates_of(shared_authority()))
    pair.ours.say(b"let me in")
    pair.theirs.say(b"who is there?")
    pair.exchange()
    assert pair.ours.wire.closed
    assert pair.theirs.wire.closed
    assert pair.ours.link.received == pair.theirs.link.received == b""
    assert any("certificate verify failed" in each for each in pair.ours.complaints)
    pair.close()


def test_a_changed_record_ends_the_wire(secured: Pair) -> None:
    secured.exchange()
    assert secured.theirs.wire.tls is not None
    secured.ours.say(b"pay 100")
    sealed = bytearray(secured.theirs.sock.recv(1 << 16))
    sealed[-1] ^= 1
    ours, theirs = secured.ours, secured.theirs
    ours.sock.send(sealed)
    theirs.wire.ready()
    assert theirs.link.received == b""
    assert theirs.wire.closed
    (complaint,) = theirs.complaints
    assert complaint.startswith("TLS with peer failed: ")


def test_the_end_of_tls_is_the_end_of_the_wire(secured: Pair) -> None:
    secured.exchange()
    tls = secured.ours.wire.tls
    assert tls is not None
    secured.ours.say(b"bye")
    with pytest.raises(ssl.SSLWantReadError):
        tls._tls.unwrap()
    secured.ours.wire.send()
    secured.theirs.wire.ready()
    secured.theirs.wire.ready()
    assert secured.theirs.link.received == b"bye"
    assert secured.theirs.wire.closed
    assert secured.theirs.complaints == []


# -- ends ------------------------------------------------------------------------------------------


def test_closing_twice_is_closing_once(pair: Pair) -> None:
    end = pair.ours
    end.wire.close()
    end.wire.close()
    assert len(end.closed) == 1
    assert end.closed[0] >= 0, "its owner is told while the socket is still open"
    assert end.link.ends == 1
    assert end.sock.fileno() == -1


def test_a_closed_link_says_its_last_words(pair: Pair) -> None:
    pair.exchange()
    pair.ours.link.closed = True
    pair.ours.say(b"bye")
    assert pair.ours.wire.closed
    pair.theirs.wire.ready()
    pair.theirs.wire.ready()
    assert pair.theirs.link.received == b"bye"
    assert pair.theirs.wire.closed


def test_who_closes_while_it_hears_hears_no_more(plain: Pair) -> None:
    link = plain.ours.link

    def close(data: bytes) -> None:
        plain.ours.wire.close()

    link.receive = close  # type: ignore[method-assign]
    plain.theirs.say(b"x")
    plain.ours.wire.ready()
    assert link.ends == 1


@pytest.mark.parametrize("says_something", [False, True], ids=["reading", "writing"])
def test_a_reset_is_an_end(says_something: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
    end = End(sock)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.close()
    select.select([sock], [], [])  # the reset may still be under way
    if says_something:
        end.say(b"hello")
        end.say(b"hello")
    else:
        end.wire.ready()
    assert end.wire.closed
    assert end.link.ends == 1
    assert end.complaints == []


def test_what_was_kept_goes_with_the_wire(plain: Pair) -> None:
    plain.ours.say(bytes(4 << 20))
    assert plain.ours.wire.blocked
    plain.theirs.wire.close()
    plain.ours.wire.ready()
    assert plain.ours.wire.closed
    assert not plain.ours.wire.blocked


# -- links that do not come about ------------------------------------------------------------------


def wire_of(sock: socket.socket, link: Link, tls: WireTls | None) -> Wire:
    sock.setblocking(False)
    return Wire(
        sock,
        link,
        name="peer",
        tls=tls,
        network=Network(),
        on_blocked=lambda wire, blocked: None,
        on_closed=lambda wire: None,
        complain=lambda line: None,
    )


@pytest.mark.parametrize("data", Data)
@pytest.mark.parametrize("other", ["another authority", "no TLS there", "no TLS here"])
def test_who_dials_learns_what_the_other_has(data: Data, other: str) -> None:
    """Whoever has nothing must know that, though nobody vouches for either side."""
    group = Group("ab")
    ours, theirs = group["a"].node, group["b"].node
    theirs.view.data = data
    here, there = new_authority(), shared_authority()
    dials = None if other == "no TLS here" else certificates_of(here).context("dials")
    accepts = None if other == "no TLS there" else certificates_of(there).context("accepts")
    address = address_of("b")
    sockets = socket.socketpair()
    wires = [
        wire_of(
            sockets[0],
            ours.membership.open_link(dialled=address),
            None if dials is None else WireTls(dials, server_side=False, data=Data.NOTHING),
        ),
        wire_of(
            sockets[1],
            theirs.membership.open_link(dialled=None, address="a:1"),
            None if accepts is None else WireTls(accepts, server_side=True, data=data),
        ),
    ]
    for _ in range(20):
        for wire in wires:
            if not wire.closed:
                wire.ready()
                wire.send()
    assert [wire.closed for wire in wires] == [True, True]
    assert group["a"].rows["last_refusal"] == "tls"
    assert group["a"].rows["authentication_failures"] == 0
    whose = ours.beginning.whose_data()
    if data is Data.NOTHING:
        assert whose == ""
    else:
        assert whose == f"{address} has data, and there is no link to it: {ADVICE['tls']}"
    assert theirs.beginning.whose_data() == ""  # nobody who only calls has a say


def test_without_a_word_about_data_there_may_be_any(secured: Pair) -> None:
    """So it is with the release before, which does not know the question."""
    secured.exchange()
    assert secured.ours.wire.tls is not None
    assert secured.ours.wire.tls.their_data == "kept"
    context = certificates_of(shared_authority()).context("accepts")
    silent = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    assert silent.selected_alpn_protocol() is None
    link = Group("ab")["a"].node.membership.open_link(dialled=address_of("b"))
    link.tls_failed(b"\x15\x03\x03\0\2\2\x30", None)
    assert link.their_data is Data.KEPT


@pytest.mark.parametrize(
    "said", [b"", b"ERROR\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 9]
)
def test_what_is_no_node_has_no_data(said: bytes) -> None:
    node = Group("ab")["a"].node
    link = node.membership.open_link(dialled=address_of("b"))
    assert link.tls_failed(said, None) == b""
    link.disconnected()
    assert node.beginning.whose_data() == ""
