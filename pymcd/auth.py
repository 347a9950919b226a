"""Who may come in: passwords, and the SASL mechanisms PLAIN, CRAM-MD5 and SCRAM-SHA-*.

Steps, no I/O: the server lends what reads the password file, and where chance is needed, that.
An `Exchange` is one attempt to log in, a generator that yields challenges and is sent the
client's responses; the protocols put both on the wire in their own way.

A password is kept as it is, as memcached does (`user:password`), or as what SCRAM derives from it
(`user:$scram$...`, made by `pymcd passwd`), from which nobody gets it back. PLAIN and SCRAM work
with either, CRAM-MD5 only with the first. Secrets are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import stringprep
import unicodedata
from base64 import b64decode, b64encode
from functools import cache, lru_cache, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    _Steps = Generator[bytes, bytes, bool]

#: By the name in `$scram$`: what hashlib calls it, and the SASL mechanism.
_ALGORITHMS: Final = {
    "sha-1": ("sha1", "SCRAM-SHA-1"),
    "sha-256": ("sha256", "SCRAM-SHA-256"),
    "sha-512": ("sha512", "SCRAM-SHA-512"),
}
_BY_MECHANISM: Final = {mechanism: algorithm for algorithm, (_, mechanism) in _ALGORITHMS.items()}
#: What PLAIN is checked with.
_PLAIN_ALGORITHM: Final = "sha-256"
_HASHED_PREFIX: Final = b"$scram$"

#: In the order in which they are offered.
MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN")

#: Work to be done for each guess at a hashed password: about 2 ms. A login blocks for as long.
ITERATIONS: Final = 4096
ITERATIONS_MAX: Final = 1_000_000
SALT_BYTES: Final = 16
#: Derived keys kept, so that the next login of the same user is cheap.
_KEYS_KEPT_MAX: Final = 1024


class Keys(NamedTuple):
    """What a SCRAM server needs to know of a password. # RFC 5802, 3"""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int


class User(NamedTuple):
    """One line of a password file: the password, or what was derived from it."""

    name: bytes
    password: bytes | None
    keys: dict[str, Keys]  #: by algorithm


class MalformedError(ValueError):
    """A line of a password file is not one."""


# -- password files ----------------------------------------------------------------------------


def derive_keys(password: bytes, algorithm: str, salt: bytes, iterations: int) -> Keys:
    """Return what is kept of a password. Takes milliseconds, on purpose. # RFC 5802, 3"""
    name = _ALGORITHMS[algorithm][0]
    salted = hashlib.pbkdf2_hmac(name, prepare(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", name)
    stored_key = hashlib.new(name, client_key).digest()
    return Keys(salt, stored_key, hmac.digest(salted, b"Server Key", name), iterations)


def prepare(password: bytes) -> bytes:
    """Return a password as SCRAM clients prepare it: the same characters, the same bytes."""
    # RFC 4013, 2.1 and 2.2
    if password.isascii():
        return password
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    return unicodedata.normalize("NFKC", mapped).encode()


def encode_hashed(password: bytes, salt: bytes, iterations: int = ITERATIONS) -> bytes:
    """Return what stands for a password behind `user:`."""
    hashes = []
    for algorithm in _ALGORITHMS:
        keys = derive_keys(password, algorithm, salt, iterations)
        stored, server = b64encode(keys.stored_key), b64encode(keys.server_key)
        hashes.append(b"%b=%b.%b" % (algorithm.encode(), stored, server))
    return b"%b%d$%b$%b" % (_HASHED_PREFIX, iterations, b64encode(salt), b",".join(hashes))


def _user(name: bytes, password: bytes) -> User:
    if not password.startswith(_HASHED_PREFIX):
        return User(name, password, {})
    try:
        iterations, salt, hashes = password.removeprefix(_HASHED_PREFIX).split(b"$")
        count = int(iterations)
        if not 0 < count <= ITERATIONS_MAX:
            raise MalformedError
        decode = partial(b64decode, validate=True)
        keys = {}
        for each in hashes.split(b","):
            algorithm, _, both = each.partition(b"=")
            stored, _, server = both.partition(b".")
            if algorithm.decode() in _ALGORITHMS:
                keys[algorithm.decode()] = Keys(decode(salt), decode(stored), decode(server), count)
    except ValueError:
        raise MalformedError from None
    return User(name, None, keys)


def decode_sasl_users(data: bytes) -> list[User]:
    """Read a SASL password file: `user:password`, where a further colon ends the password.

    What is no such line is passed over. # memcached: sasl_server_userdb_checkpass
    """
    users = []
    for line in data.splitlines():
        name, colon, rest = line.partition(b":")
        if colon:
            try:
                users.append(_user(name, rest.partition(b":")[0]))
            except MalformedError:
                continue
    return users


def decode_text_users(data: bytes) -> list[User]:
    """Read the file of `-Y`: `user:password`, where the password may hold colons.

    Raises `MalformedError` for anything else, blank lines too. # memcached: authfile_load
    """
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    users = []
    for line in lines:
        name, colon, password = line.partition(b":")
        if not colon:
            raise MalformedError
        users.append(_user(name, password.partition(b"\r")[0]))
    return users


def decode_mechanisms(data: bytes) -> list[str] | None:
    """Return what `mech_list` in a SASL configuration names; None: it is not there."""
    for line in data.decode("latin-1").splitlines():
        name, colon, words = line.partition(":")
        if colon and name.strip() == "mech_list":
            return words.upper().split()
    return None


# -- logging in --------------------------------------------------------------------------------


class Exchange:
    """One attempt to log in."""

    __slots__ = ("_steps", "succeeded")

    def __init__(self, steps: _Steps) -> None:
        self._steps = steps
        self.succeeded = False
        next(steps)

    def step(self, response: bytes) -> bytes | None:
        """Take what the client says; return the next challenge, or None when it is decided.

        What the client says first may be empty, where a mechanism lets the server begin.
        """
        try:
            return self._steps.send(response)
        except StopIteration as end:
            self.succeeded = bool(end.value)
            return None


class Authenticator:
    """Knows the users of one server, and how they may prove who they are."""

    def __init__(
        self,
        read_users: Callable[[], Iterable[User]],
        *,
        make_nonce: Callable[[], str],
        secret: bytes,
        mechanisms: Sequence[str] | None = None,
        realm: str = "",
    ) -> None:
        """`read_users` is called at each login. `secret`, any random bytes, makes salts."""
        self._read_users = read_users
        self._make_nonce = make_nonce
        self._secret = secret
        self._wanted = MECHANISMS if mechanisms is None else mechanisms
        self._realm = realm
        #: Who was right once: name and keys, and a digest of the password.
        self._known_right: dict[tuple[bytes, Keys], bytes] = {}
        self._derive_keys = lru_cache(_KEYS_KEPT_MAX)(derive_keys)

    def mechanisms(self) -> list[str]:
        """Return what a client may choose from now: what works for every user."""
        hashed = any(user.password is None for user in self._read_users())
        known = self._known()
        return [
            each for each in self._wanted if each in known and not (hashed and each == "CRAM-MD5")
        ]

    def begin(self, mechanism: str) -> Exchange | None:
        """Begin an attempt; None: no such mechanism here."""
        known = self._known()
        if mechanism in self._wanted and mechanism in known:
            return Exchange(known[mechanism]())
        return None

    def _known(self) -> dict[str, Callable[[], _Steps]]:
        known = {"PLAIN": self._plain, "CRAM-MD5": self._cram_md5}
        if _has_scramp():
            known |= {name: partial(self._scram, name) for name in _BY_MECHANISM}
        return known

    def check(self, name: bytes, password: bytes) -> bool:
        """Return whether that is the password of that user."""
        user = self._find(name)
        if user is None:
            return False
        if user.password is not None:
            return hmac.compare_digest(password, user.password)
        expected = user.keys.get(_PLAIN_ALGORITHM)
        if expected is None:
            return False
        # Who was right once is compared with that, which is quick, as long as the line stays.
        key = (name, expected)
        digest = hmac.digest(self._secret, password, "sha256")
        known = self._known_right.get(key)
        if known is not None:
            return hmac.compare_digest(digest, known)
        keys = derive_keys(password, _PLAIN_ALGORITHM, expected.salt, expected.iterations)
        if not hmac.compare_digest(keys.stored_key, expected.stored_key):
            return False
        if len(self._known_right) >= _KEYS_KEPT_MAX:
            self._known_right.clear()
        self._known_right[key] = digest
        return True

    def _find(self, name: bytes) -> User | None:
        """Return the first user of that name; a name without a realm may have this host's."""
        with_realm = name if b"@" in name else name + b"@" + self._realm.encode()
        for user in self._read_users():
            if user.name in (name, with_realm):
                return user
        return None

    # -- mechanisms ------------------------------------------------------------------------

    def _plain(self) -> _Steps:
        # RFC 4616: [authzid] NUL authcid NUL passwd
        message = yield b""
        if not message:
            message = yield b""
        parts = message.split(b"\0")
        if len(parts) != 3:
            return False
        identity, name, password = parts
        # As the library that memcached uses: blanks around a name are nothing.
        name = name.strip()
        if not name or not password or (identity and identity.strip() != name):
            return False
        return self.check(name, password)

    def _cram_md5(self) -> _Steps:
        # RFC 2195: the server begins; name, a blank, and a digest of the challenge
        if (yield b""):
            return False
        challenge = f"<{self._make_nonce()}@{self._realm or 'localhost'}>".encode()
        answer = yield challenge
        name, _, digest = answer.rpartition(b" ")
        user = self._find(name)
        password = b"" if user is None or user.password is None else user.password
        expected = hmac.new(password, challenge, "md5").hexdigest().encode()
        return hmac.compare_digest(digest, expected) and bool(password)

    def _scram(self, mechanism: str) -> _Steps:
        # RFC 5802. The server has the last word, which the client answers with nothing.
        import scramp  # an extra, and only needed here

        algorithm = _BY_MECHANISM[mechanism]
        names: list[str] = []

        def look_up(name: str) -> Keys:
            names.append(name)
            return self._scram_keys(name.encode(), algorithm)

        message = yield b""
        if not message:
            message = yield b""
        try:
            server = scramp.ScramMechanism(mechanism).make_server(
                look_up, s_nonce=self._make_nonce()
            )
            # scramp knows no authorisation identity: it is taken out for it, and the header that
            # the client repeats in its last message is put back.
            flag, identity, bare = message.decode().split(",", 2)
            server.set_client_first(f"{flag},,{bare}")
            if identity and identity != f"a={names[-1]}":
                return False
            if identity:
                header = f"{flag},{identity},".encode()
                server.gs2_header = SimpleNamespace(make_cbind_input=lambda _: header)
            answer = yield server.get_server_first().encode()
            server.set_client_final(answer.decode())
            rest = yield server.get_server_final().encode()
        except (scramp.ScramException, ValueError, IndexError):
            return False
        return rest == b""

    def _scram_keys(self, name: bytes, algorithm: str) -> Keys:
        """Return what is to be proven; for an unknown user, what nobody can prove."""
        user = self._find(name)
        salt = hmac.digest(self._secret, b"salt " + name, "sha256")[:SALT_BYTES]
        if user is None or user.password is None:
            nothing = hmac.digest(self._secret, b"nobody " + name, _ALGORITHMS[algorithm][0])
            nobody = Keys(salt, nothing, nothing, ITERATIONS)
            return nobody if user is None else user.keys.get(algorithm, nobody)
        return self._derive_keys(user.password, algorithm, salt, ITERATIONS)


def preload() -> None:
    """Import what logins may need: afterwards the process may not be able to."""
    if _has_scramp():
        import scramp  # noqa: F401


@cache
def _has_scramp() -> bool:
    return importlib.util.find_spec("scramp") is not None
