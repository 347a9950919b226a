"""What is fuzzed: each target takes any bytes, and raises nothing unless pymcd is at fault.

A target tells two servers the same in two ways: one receives and runs, as the stream driver does,
the other responds, as the hub does. Both must answer the same, in whole replies of their protocol,
keep no more of what they received than the limits allow, and come to an end. Servers that hold
nothing any more, and are set as at their start, serve again, as that is quicker than new ones; an
input that fails is tried again with new ones, so that it can be replayed alone.

`text`, `meta` and `binary` read their input as what a client sends: to one server in one piece, to
the other command by command. `mixed` and `authentication` read it as a script, of steps that say
themselves how long they are.
"""

from __future__ import annotations

import contextlib
import functools
import hmac
import re
import struct
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from pymcd import limits
from pymcd.auth import (
    MECHANISMS,
    Authenticator,
    MalformedError,
    Users,
    decode_mechanisms,
    decode_sasl_users,
    decode_text_users,
    encode_hashed,
)
from pymcd.clock import OffsetClock
from pymcd.config import Settings
from pymcd.protocol import Connection, arrival
from pymcd.protocol.binary import ERROR_TEXTS, REQUEST_MAGIC, RESPONSE_MAGIC
from pymcd.service import Service
from pymcd.store.status import StoreMode

from ..clocks import ManualClock
from ..hosts import lend, make_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Few slab classes make a server in no time; some of the values are too large for this one, some
#: are stored in chunks.
SMALL: Final[dict[str, Any]] = {
    "item_size_max_bytes": 1024,
    "slab_chunk_max_bytes": 512,
    "slab_sizes": (96, 192, 512),
}
#: Enough for a command to each byte of an input: when a turn ends is what `mixed` looks at.
_NO_YIELD: Final[dict[str, Any]] = {"reqs_per_event": 10_000}

#: How many inputs a server meets at most.
_LIVES: Final = 200
#: Of so many inputs, one has all structures checked.
_CHECK_EVERY: Final = 64
#: What comes before a value: a line, or header, extras and key of the binary protocol.
_HEAD_MAX_BYTES: Final = max(limits.LINE_MAX_BYTES, limits.READ_BUFFER_BYTES)
_VALUE_MAX_BYTES: Final = SMALL["item_size_max_bytes"] + 2
#: A line and a value, waited for as one.
_LOGIN_MAX_BYTES: Final = limits.LINE_MAX_BYTES + limits.READ_BUFFER_BYTES + 2


class Server:
    """A small server and its clients; plays the driver."""

    def __init__(self, *, responds: bool, clients: int = 1, **settings: Any) -> None:
        self.responds = responds
        self.clock = ManualClock()
        self.service = _make_service(self.clock, **settings)
        lend(self.service, log_line=_check_log_line)
        self._begun_as = _tunables(self.service)
        self._lives = _LIVES
        self.clients: list[Connection] = []
        for _ in range(clients):
            self.connect()

    def begin_again(self) -> bool:
        """Forget all clients and items; False: that is not enough to be as new."""
        self._lives -= 1
        if (
            not self._lives
            or self.service.clock is not self.clock  # it may have been set
            or _tunables(self.service) != self._begun_as
        ):
            return False
        cache = self.service.cache
        if cache.item_count:
            # Not by `items`: it is instrumented, and there are many tables.
            for table in filter(None, cache._tables):
                for item in list(table.values()):
                    cache.unlink(item)
        cache.cas_unique = 0
        self.service.connections.clear()
        count = len(self.clients)
        self.clients.clear()
        for _ in range(count):
            self.connect()
        return True

    def connect(self) -> None:
        """Let another client come."""
        number = len(self.clients)
        connection = Connection(
            self.service,
            connection_id=30 + number,
            address=f"tcp:127.0.0.1:{40000 + number}",
            listen_address="tcp:127.0.0.1:11211",
        )
        self.service.connected(connection)
        self.clients.append(connection)

    def hear(self, data: bytes, number: int = 0) -> bytes:
        """Give a client's data to its connection; return all that is answered."""
        connection = self.clients[number]
        self.service.tick()
        answer = None
        if self.responds:
            answer = connection.responder(data)
        else:
            connection.receive_data(data)
        if answer is None:
            answer = self._receive(connection, len(data))
        self._check_bounds(connection, len(data))
        return answer

    def _check_bounds(self, connection: Connection, received: int) -> None:
        """A connection at rest keeps no more than what may yet become a command."""
        unread = len(connection.buffer) - connection.position
        awaited = connection.arrived.tell()
        assert len(connection.buffer) <= _LOGIN_MAX_BYTES + received or _is_long_get(connection)
        if connection.closing:
            return
        if connection.stranger_since is not None:
            assert unread <= _LOGIN_MAX_BYTES
            assert awaited <= limits.LOGIN_MAX_BYTES
        else:
            assert unread <= _HEAD_MAX_BYTES or _is_long_get(connection)
            assert awaited <= _VALUE_MAX_BYTES
        assert connection.line is None or connection.line.tell() <= limits.GET_LINE_MAX_BYTES

    def _receive(self, connection: Connection, length: int) -> bytes:
        replies = []
        # Whatever is said, no command is shorter than a byte.
        for _ in range(_LOGIN_MAX_BYTES + length):
            more = connection.run()
            replies += connection.pieces
            connection.pieces.clear()
            if connection.source is not None:
                replies += connection.source
                connection.source = None
                more = True
            if not more:
                return b"".join(replies)
        raise AssertionError("there seems to be no end")

    def overhear(self, number: int) -> bytes:
        """Return what a client was told without having asked: a watcher's lines."""
        told = b"".join(self.clients[number].pieces)
        self.clients[number].pieces.clear()
        return told

    def rest(self, seconds: int) -> None:
        """Let time pass, and maintenance be done."""
        self.clock.advance(seconds)
        for _ in range(3):
            self.service.maintainer.step()


def _tunables(service: Service) -> tuple[object, ...]:
    """Return what commands may change for good."""
    cache, crawler, rebalancer = service.cache, service.crawler, service.rebalancer
    lru = cache.lru
    return (
        service.verbosity,
        cache.listener,
        len(service.recorder.prefixes),
        cache.temporary_lru,
        cache.temporary_ttl_s,
        cache.lru.segmented,
        cache.horizon.oldest_live,
        cache.slabs.limit_bytes,
        cache.slabs.free_pages,
        lru.hot_pct,
        lru.warm_pct,
        lru.hot_max_factor,
        lru.warm_max_factor,
        crawler.enabled,
        crawler.tocrawl,
        crawler.sleep_us,
        crawler.running,
        rebalancer.automove,
        rebalancer.automove_ratio,
        rebalancer.busy,
    )


def _begin_again(pair: tuple[Server, Server]) -> bool:
    slow, fast = (server.begin_again() for server in pair)
    assert slow == fast
    return slow


def _servers(clients: int = 1, **settings: Any) -> tuple[Server, Server]:
    """Return a server that receives and runs, and one that responds, alike in all else."""
    key = (clients, *settings.items())
    pair = _used.get(key)
    if pair is None or not _begin_again(pair):
        slow, fast = (
            Server(responds=responds, clients=clients, **settings) for responds in (False, True)
        )
        pair = _used[key] = slow, fast
    return pair


_used: Final[dict[tuple[object, ...], tuple[Server, Server]]] = {}
_used_for_logins: Final[dict[tuple[object, ...], Server]] = {}
_last_inputs: Final[deque[bytes]] = deque(maxlen=_LIVES)


def _replayable(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Have an input that fails be tried again with new servers."""

    @functools.wraps(target)
    def run(data: bytes) -> None:
        _last_inputs.append(data)
        try:
            target(data)
        except Exception as error:
            _used.clear()
            _used_for_logins.clear()
            target(data)  # which raises again, if it takes no more than this input
            error.add_note(f"only behind other inputs: {list(_last_inputs)!r}")
            raise

    return run


@functools.lru_cache(maxsize=64)
def _settings(settings: tuple[tuple[str, Any], ...]) -> Settings:
    return Settings(**SMALL, **dict(settings))


def _make_service(clock: ManualClock, **settings: Any) -> Service:
    chosen = _settings(tuple(settings.items()))
    return Service(chosen, OffsetClock(clock) if chosen.debug_commands else clock, make_host())


def _check_log_line(line: str) -> None:
    assert isinstance(line, str)


def _is_long_get(connection: Connection) -> bool:
    rest = connection.buffer[connection.position :].lstrip(b" ")
    return rest.startswith((b"get ", b"gets "))


def _agree(one: Server, other: Server, data: bytes) -> None:
    """Check that two servers hold the same, and now and then, all that can be checked."""
    one_cache, other_cache = one.service.cache, other.service.cache
    assert one_cache.cas_unique == other_cache.cas_unique
    assert one_cache.item_bytes == other_cache.item_bytes
    if zlib.crc32(data) % _CHECK_EVERY == 0:
        one_cache.check()
        other_cache.check()
        assert _items(one) == _items(other)


def _items(server: Server) -> dict[bytes, tuple[object, ...]]:
    return {
        item.key: (item.value, item.client_flags, item.expires_at, item.cas_unique, item.access)
        for item in server.service.cache.items()
    }


# -- replies ------------------------------------------------------------------------------------

#: A line, and what begins with the length of a block.
_LINE: Final = re.compile(
    rb"(?:STORED|NOT_STORED|EXISTS|NOT_FOUND|DELETED|TOUCHED|OK|END|RESET|MN|\d+"
    rb"|(?:HD|EN|NF|EX|NS)(?: [^\n]*)?|ME [^\n]*|VERSION [\d.]+|(?:STAT|ITEM|PREFIX) [^\n]*"
    rb"|ERROR(?: [^\n]*)?|CLIENT_ERROR [^\n]*|SERVER_ERROR[: ][^\n]*|Error TLS not enabled"
    rb"|(?:BUSY|BADCLASS|NOSPARE|SAME|NOTSTARTED|MEMLIMIT_\w+|WATCHER_TOO_MANY) [^\n]*"
    # Of mgdump; and what a get says of a key that is too long ends twice.
    rb"|mg [^\n]*|"
    rb")\r\n"
    # Lines of metadump and of watch.
    rb"|(?:key=|ts=|skipped=)[!-~ ]*\n"
)
_BLOCK: Final = re.compile(rb"(?:VALUE [^ \n]+ \d+ (\d+)(?: \d+)?|VA (\d+)(?: [^\n]*)?)\r\n")


def check_text(replies: bytes) -> None:
    """Raise AssertionError unless that is whole replies of the text protocols."""
    position = 0
    while position < len(replies):
        block = _BLOCK.match(replies, position)
        if block is not None:
            position = block.end() + int(block[1] or block[2] or 0)
            assert replies[position : position + 2] == b"\r\n", replies
            position += 2
            continue
        line = _LINE.match(replies, position)
        assert line is not None, replies[position:]
        position = line.end()


_RESPONSE: Final = struct.Struct(">BBHBBHI")
_STATUSES: Final = {0x00, 0x21, *ERROR_TEXTS}


def check_binary(replies: bytes) -> None:
    """Raise AssertionError unless that is whole replies of the binary protocol."""
    position = 0
    while position < len(replies):
        magic, _, key_bytes, extras_bytes, kind, status, body_bytes = _RESPONSE.unpack_from(
            replies, position
        )
        assert (magic, kind) == (RESPONSE_MAGIC, 0), replies[position:]
        assert status in _STATUSES
        assert key_bytes + extras_bytes <= body_bytes
        position += 24 + body_bytes
    assert position == len(replies), replies


_INCOMPARABLE: Final = re.compile(
    rb"(?s)(?:STAT |\x81\x10.{22})(?:rusage_user|rusage_system|conn_yields) ?[\d.]+(?:\r\n)?"
)


def _comparable(replies: bytes) -> bytes:
    """Leave out what the clock on the wall decides, and in how many pieces requests came."""
    return _INCOMPARABLE.sub(b"", replies) if b"rusage_" in replies else replies


# -- what a client sends ------------------------------------------------------------------------

#: These ask whether they came alone.
_ALONE: Final = re.compile(rb"watch|lru_crawler +m")
_TEXT_COMMAND: Final = re.compile(
    rb"(?:(?:set|add|replace|append|prepend|cas|ms) [^\n]*\n)?[^\n]*(?:\n|\Z)"
)


@_replayable
def text(data: bytes) -> None:
    """Fuzz the classic text protocol."""
    _one_client(data, _text_commands(data), check_text, protocol="ascii")


@_replayable
def meta(data: bytes) -> None:
    """Fuzz the meta commands: what makes the difference is the corpus."""
    _one_client(data, _text_commands(data), check_text, protocol="ascii")


@_replayable
def binary(data: bytes) -> None:
    """Fuzz the binary protocol."""
    _one_client(data, _binary_requests(data), check_binary, protocol="binary")


def _one_client(
    data: bytes, pieces: list[bytes], check: Callable[[bytes], None], **how: Any
) -> None:
    whole, pieced = _servers(**how, **_NO_YIELD)
    expected = _comparable(whole.hear(data))
    check(expected)
    got = b""
    for piece in pieces:
        if pieced.clients[0].closing:
            break
        got += pieced.hear(piece)
    assert _comparable(got) == expected
    assert pieced.clients[0].closing == whole.clients[0].closing
    _agree(whole, pieced, data)


def _text_commands(data: bytes) -> list[bytes]:
    """Cut what a client sends into commands, with their values."""
    if _ALONE.search(data):
        return [data]
    return [piece for piece in _TEXT_COMMAND.findall(data) if piece]


def _binary_requests(data: bytes) -> list[bytes]:
    """Cut what a client sends into requests."""
    pieces = []
    position = 0
    while position < len(data):
        end = position + 24
        if end <= len(data):
            end += int.from_bytes(data[position + 8 : position + 12])
        pieces.append(data[position:end])
        position = end
    return pieces


# -- scripts ------------------------------------------------------------------------------------


class Script:
    """An input read from its beginning; when it has ended, everything is nothing."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __iter__(self) -> Iterator[int]:
        while self._position < len(self._data):
            yield self.byte()

    def byte(self) -> int:
        """Return the next byte, as a number."""
        return next(iter(self.take(1)), 0)

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        taken = self._data[self._position : self._position + length]
        self._position += length
        return taken

    def block(self) -> bytes:
        """Return what a byte tells the length of."""
        return self.take(self.byte())


#: How the servers of `mixed` are set up.
VARIANTS: Final[list[dict[str, Any]]] = [
    {},
    {"reqs_per_event": 1},
    {"disable_cas": True},
    {"lru_segmented": False, "lru_maintainer": False},
    {"protocol": "ascii"},
    {"protocol": "binary"},
    {"verbose": 2},
    {"detail_enabled": True},
    {"debug_commands": True, "enable_shutdown": True},
    {"temporary_ttl_s": 10},
    {"disable_flush_all": True, "disable_dumping": True, "disable_watch": True},
    {"memory_accounting": "resident", "track_sizes": True},
]
#: A length that means: how often, and then the length of what is said so often. Once an input:
#: enough to go beyond each limit.
_REPEAT: Final = 127
_REPEATS_MAX: Final = 64
_REPEATED_MAX_BYTES: Final = 127


#: Values gather in segments of a size that takes longer to try; all that are there have it.
_SEGMENTS_BYTES: Final = (4096, 64)


@_replayable
def mixed(data: bytes) -> None:
    """Fuzz two clients of either protocol, who say pieces of commands by turns.

    A first byte chooses the variant. Then the high bit of a byte tells which client speaks, the
    other bits how much it says; if that is nothing, time passes. One server hears all that a client
    says in a turn at once.
    """
    script = Script(data)
    sizes, number = divmod(script.byte(), len(VARIANTS))
    segment_bytes = _SEGMENTS_BYTES[sizes % len(_SEGMENTS_BYTES)]
    with mock.patch.multiple(arrival, SEGMENT_BYTES=segment_bytes, _KEPT_MAX=0):
        _Mixture(VARIANTS[number]).play(script)


class _Mixture:
    """The two clients of `mixed`, and the servers."""

    def __init__(self, variant: dict[str, Any]) -> None:
        self._slow, self._fast = _servers(2, **variant)
        self._protocol = variant.get("protocol", "auto")
        self._said = [b"", b""]
        self._speaker = 0
        self._turn: list[bytes] = []

    def play(self, script: Script) -> None:
        repeated = False
        for head in script:
            number, length = head >> 7, head & 0x7F
            if length == 0 or number != self._speaker:
                self._end_turn()
                self._speaker = number
            if length == 0:
                for server in (self._slow, self._fast):
                    server.rest(1 + 99 * number)
            elif length == _REPEAT and not repeated:
                repeated = True
                times = 1 + script.byte() % _REPEATS_MAX
                self._turn.append(script.take(script.byte() % _REPEATED_MAX_BYTES) * times)
            else:
                self._turn.append(script.take(length))
        self._end_turn()
        _agree(self._slow, self._fast, self._said[0] + self._said[1])

    def _end_turn(self) -> None:
        number, slow, fast = self._speaker, self._slow, self._fast
        pieces = [piece for piece in self._turn if piece]
        self._turn.clear()
        if not pieces or slow.clients[number].closing:
            return
        said = self._said[number] = self._said[number] + b"".join(pieces)
        # Longer lines may be refused, if they come in pieces.
        if len(said) > limits.LINE_MAX_BYTES or _ALONE.search(said):
            expected = self._hear_all(slow, pieces)
        else:
            expected = slow.hear(b"".join(pieces), number)
        got = self._hear_all(fast, pieces)
        is_binary = self._protocol == "binary" or (
            self._protocol == "auto" and said[0] == REQUEST_MAGIC
        )
        (check_binary if is_binary else check_text)(expected)
        assert _comparable(got) == _comparable(expected)
        for each in (0, 1):
            assert fast.overhear(each) == slow.overhear(each)
            assert fast.clients[each].closing == slow.clients[each].closing
            assert fast.clients[each].answer_plain == slow.clients[each].answer_plain

    def _hear_all(self, server: Server, pieces: list[bytes]) -> bytes:
        answer = b""
        for piece in pieces:
            if server.clients[self._speaker].closing:
                break
            answer += server.hear(piece, self._speaker)
        return answer


# -- authentication -----------------------------------------------------------------------------

_PASSWORDS: Final = {b"ann": b"open", b"bob": b"sesame"}
#: What a stranger must not see.
_TREASURE: Final = b"the treasure"

_AUTH, _STEP = 0x21, 0x22


@functools.cache
def _users() -> Users:
    hashed = encode_hashed(_PASSWORDS[b"bob"], b"salt", 1)
    return decode_sasl_users(b"ann:%b\nbob:%b\n" % (_PASSWORDS[b"ann"], hashed))


@functools.cache
def _authenticator() -> Authenticator:
    return Authenticator(_users, make_nonce=lambda: "nonce", secret=b"secret")


@_replayable
def authentication(data: bytes) -> None:
    """Fuzz logins: SASL, those of the text protocol, password files.

    Whoever gets in must have said a password, or proven that they know it.
    """
    script = Script(data)
    [_sasl, _text_login, _password_files][script.byte() % 3](script)


def _login_server(**settings: Any) -> Server:
    key = tuple(settings.items())
    server = _used_for_logins.get(key)
    if server is None or not server.begin_again():
        server = _used_for_logins[key] = Server(responds=False, clients=0, **settings)
        lend(server.service, authenticator=_authenticator())
        server.connect()
    server.service.cache.store(StoreMode.SET, b"k", _TREASURE, 0, 0, 0)
    return server


def _text_login(script: Script) -> None:
    server = _login_server(auth_file="users", protocol="ascii")
    said = b""
    for head in script:
        piece = script.take(head & 0x7F) * (1 + head // 0x80 * 40)
        if server.clients[0].closing:
            break
        said += piece
        answer = server.hear(piece)
        check_text(answer)
        if any(password in said for password in _PASSWORDS.values()):
            continue
        assert server.clients[0].stranger_since is not None
        assert _TREASURE not in answer
    _check_counts(server)


def _check_counts(server: Server) -> None:
    counters = server.service.counters
    assert counters.auth_errors <= counters.auth_cmds


def _request(opcode: int, key: bytes, value: bytes = b"") -> bytes:
    head = struct.pack(
        ">BBHBBHI12x", REQUEST_MAGIC, opcode, len(key), 0, 0, 0, len(key) + len(value)
    )
    return head + key + value


def _sasl(script: Script) -> None:
    from scramp import ScramClient, ScramException  # of an extra, and only here

    server = _login_server(enable_sasl=True, protocol="binary")
    connection = server.clients[0]
    proven = False  #: that a password is known, at least once
    challenge = b""
    client: Any = None
    for head in script:
        operation, detail = head & 0x0F, head >> 4
        name, password = (b"ann", b"open") if detail & 1 else (b"bob", b"sesame")
        mechanism = MECHANISMS[detail % len(MECHANISMS)]
        if operation == 0:  # anything
            request = script.block() * (1 + detail)
        elif operation == 1:  # a login that begins with anything
            request = _request(_AUTH, mechanism.encode(), script.block())
        elif operation == 2:
            request = _request(_STEP, mechanism.encode(), script.block())
        elif operation == 3:
            request = _request(_AUTH, b"PLAIN", b"\0%b\0%b" % (name, password))
        elif operation == 4:
            request = _request(_AUTH, b"CRAM-MD5")
        elif operation == 5:
            digest = hmac.new(password, challenge, "md5").hexdigest().encode()
            request = _request(_STEP, b"CRAM-MD5", _spoil(script, b"%b %b" % (name, digest)))
            proven = True
        elif operation == 6:
            if "SCRAM" not in mechanism:
                continue
            # Bob's: ann's would take the client milliseconds.
            client = ScramClient([mechanism], "bob", "sesame", c_nonce="client")
            request = _request(_AUTH, mechanism.encode(), client.get_client_first().encode())
        elif operation == 7:
            if client is None:
                continue
            try:
                client.set_server_first(challenge.decode())
                response = client.get_client_final().encode()
            except (ScramException, ValueError):  # that was not the challenge
                client = None
                continue
            proven = True
            request = _request(_STEP, b"x", _spoil(script, response))
        elif operation == 8:
            request = _request(_STEP, b"x")
        elif operation == 9:
            request = _request(0x00, b"k")
        elif operation == 10:
            request = _request(0x20, b"")
        else:
            request = _request(operation, b"k"[: detail & 1])
        proven = proven or any(each in request for each in _PASSWORDS.values())
        if connection.closing:
            break
        answer = server.hear(request)
        check_binary(answer)
        challenge = answer[24:]
        assert proven or connection.stranger_since is not None
        assert proven or _TREASURE not in answer
    _check_counts(server)


def _spoil(script: Script, response: bytes) -> bytes:
    """Return the response; or with one byte changed, as the script wants it."""
    place = script.byte()
    if place == 0:
        return response
    spoiled = bytearray(response)
    spoiled[place % len(spoiled)] ^= script.byte()
    return bytes(spoiled)


def _password_files(script: Script) -> None:
    contents = script.block()
    with contextlib.suppress(MalformedError):
        decode_text_users(contents)
    mechanisms = decode_mechanisms(contents)
    users = decode_sasl_users(contents)
    # Whoever writes the file decides how long a guess takes.
    if users.guess_iterations > 2:
        users = Users()
    authenticator = Authenticator(
        lambda: users, make_nonce=lambda: "nonce", secret=b"secret", mechanisms=mechanisms
    )
    authenticator.mechanisms()
    for line in contents.splitlines()[:2]:
        name = line.partition(b":")[0]
        for user in users.find(name):
            assert all(authenticator.check(name, password) for password in user.passwords)
        authenticator.check(name, script.block())
    for head in script:
        exchange = authenticator.begin(MECHANISMS[head % len(MECHANISMS)])
        while exchange is not None and exchange.finish(script.block()) is not None:
            pass
