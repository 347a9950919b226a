"""Who may come in: passwords, and the SASL mechanisms PLAIN, CRAM-MD5 and SCRAM-SHA-*.

Steps, no I/O: the server lends what knows the users, and where chance is needed, that.
An `Exchange` is one attempt to log in, a generator that yields challenges and is sent the
client's responses; the protocols put both on the wire in their own way. What takes milliseconds it
yields as `Work`, which the server has done elsewhere, and is sent what came of it.

A password is kept as it is, as memcached does (`user:password`), or as what SCRAM derives from it
(`user:$scram$...`, made by `pymcd passwd`), from which nobody gets it back. PLAIN and SCRAM work
with either, CRAM-MD5 only with the first. A user may be listed more than once, so that an old
password and a new one are right for a time: each of them is. SCRAM has a client prove a password
with one salt: of hashed lines, those with the salt of the first count there.

Nobody learns from the time that a refusal takes whether a user exists, or how the password is kept.
Secrets are compared in constant time; and where a guess at any password takes work, a wrong one
takes as much whoever it is for, see `Users.guess_iterations` and `Users.passwords_max`.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import stringprep
import unicodedata
from base64 import b64decode, b64encode
from functools import cache, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    #: Takes milliseconds and touches nothing else. May be called in a thread.
    Work = Callable[[], Any]
    _Steps = Generator[bytes | Work, Any, bool]
    #: A password, and how keys are derived from it.
    _Wanted = tuple[bytes, str, bytes, int]

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

#: Work to be done for each guess at a hashed password: about 2 ms.
ITERATIONS: Final = 4096
ITERATIONS_MAX: Final = 1_000_000
SALT_BYTES: Final = 16
#: Derived keys kept, so that the next login of the same user is cheap.
_KEYS_KEPT_MAX: Final = 1024
#: Colons of a line behind which no more passwords end.
_COLONS_MAX: Final = 8


class Keys(NamedTuple):
    """What a SCRAM server needs to know of a password. # RFC 5802, 3"""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int


class User(NamedTuple):
    """One line of a password file: what is right, or what was derived from that."""

    passwords: tuple[bytes, ...]
    keys: dict[str, Keys]  #: by algorithm


class MalformedError(ValueError):
    """A line of a password file is not one."""


class Users:
    """Those of one password file, found by their names.

    There may be very many: a line is only looked at closer when its user logs in.
    """

    def __init__(
        self, lines: Iterable[tuple[bytes, bytes]] = (), *, colons_end: bool = False
    ) -> None:
        """`lines`: names and passwords. `colons_end`: so do not only lines, but also colons."""
        self._colons_end = colons_end
        self._lines: dict[bytes, list[bytes]] = {}
        guesses: dict[bytes, int] = {}
        passwords: dict[bytes, int] = {}
        first = 0
        for name, password in lines:
            if name in self._lines:
                self._lines[name].append(password)
            else:
                self._lines[name] = [password]
            if password.startswith(_HASHED_PREFIX):
                iterations = _iterations(password)
                first = first or iterations
                guesses[name] = guesses.get(name, 0) + iterations
            else:
                ends = 1 + (min(password.count(b":"), _COLONS_MAX) if colons_end else 0)
                passwords[name] = passwords.get(name, 0) + ends
        self.hashed = bool(guesses)  #: some passwords are
        #: What it takes at most to find out that a password is not that of a user.
        self.guess_iterations = max(guesses.values(), default=0)
        #: At most so many passwords of a user are not hashed.
        self.passwords_max = max(passwords.values(), default=0)
        #: A guess at the first hashed password; SCRAM says it of all whose own is not known.
        self.iterations = first or ITERATIONS

    def __len__(self) -> int:
        return len(self._lines)

    def find(self, *names: bytes) -> list[User]:
        """Return what the lines of a user say, who may have several names."""
        return [
            user
            for name in dict.fromkeys(names)
            for line in self._lines.get(name, ())
            if (user := self._user(line)) is not None
        ]

    def _user(self, password: bytes) -> User | None:
        """Read what stands behind a name; None: it looks hashed, and is not."""
        if password.startswith(_HASHED_PREFIX):
            keys = _decode_keys(password.partition(b":")[0] if self._colons_end else password)
            return None if keys is None else User((), keys)
        if not self._colons_end:
            return User((password,), {})
        parts = password.split(b":", _COLONS_MAX)
        return User((*(b":".join(parts[:end]) for end in range(1, len(parts))), password), {})

    def well_formed(self) -> bool:
        """Return whether what looks like a hashed password looks like one to its end."""
        return all(
            _iterations(password) and password.count(b"$") == 4
            for lines in self._lines.values()
            for password in lines
            if password.startswith(_HASHED_PREFIX)
        )


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


def _iterations(hashed: bytes) -> int:
    """Return how much work it is to try a hashed password; 0: it is none."""
    start = len(_HASHED_PREFIX)
    digits = hashed[start : start + 8].partition(b"$")[0]
    iterations = int(digits) if digits.isdigit() else 0
    return iterations if iterations <= ITERATIONS_MAX else 0


def _decode_keys(hashed: bytes) -> dict[str, Keys] | None:
    try:
        _, salt, hashes = hashed.removeprefix(_HASHED_PREFIX).split(b"$")
        iterations = _iterations(hashed)
        decode = partial(b64decode, validate=True)
        keys = {}
        for each in hashes.split(b","):
            algorithm, _, both = each.partition(b"=")
            stored, _, server = both.partition(b".")
            if algorithm.decode() in _ALGORITHMS:
                found = Keys(decode(salt), decode(stored), decode(server), iterations)
                keys[algorithm.decode()] = found
    except ValueError:
        return None
    return keys if iterations else None


def decode_sasl_users(data: bytes) -> Users:
    """Read a SASL password file: `user:password`.

    The rest of a line is the password; but what stands before a colon in it is right, too, as more
    may follow there. What is no such line is passed over. # memcached: sasl_server_userdb_checkpass
    """
    parts = (line.partition(b":") for line in data.splitlines())
    return Users(((name, rest) for name, colon, rest in parts if colon), colons_end=True)


def decode_text_users(data: bytes) -> Users:
    """Read the file of `-Y`: `user:password`, where the password may hold colons.

    Raises `MalformedError` for anything else, blank lines too, and if there is nothing.
    # memcached: authfile_load
    """
    lines = data.split(b"\n")
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    parts = [line.partition(b":") for line in lines]
    users = Users((name, password.partition(b"\r")[0]) for name, _, password in parts)
    if not all(colon for _, colon, _ in parts) or not users.well_formed():
        raise MalformedError
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

    def step(self, response: Any) -> bytes | Work | None:
        """Take what the client says, or what came of work; None: it is decided.

        Else return the next challenge, or work to be done first. What the client says first may be
        empty, where a mechanism lets the server begin.
        """
        try:
            return self._steps.send(response)
        except StopIteration as end:
            self.succeeded = bool(end.value)
            return None

    def finish(self, response: bytes) -> bytes | None:
        """Likewise, and do the work here and now."""
        outcome = self.step(response)
        while callable(outcome):
            outcome = self.step(outcome())
        return outcome


class Authenticator:
    """Knows the users of one server, and how they may prove who they are."""

    def __init__(
        self,
        read_users: Callable[[], Users],
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
        #: What was derived from passwords that are kept as they are, and from some that are not.
        self._derived: dict[_Wanted, Keys] = {}

    def mechanisms(self) -> list[str]:
        """Return what a client may choose from now: what works for every user."""
        hashed = self._read_users().hashed
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

    def begin_check(self, name: bytes, password: bytes) -> Exchange:
        """Begin to find out if that is the password of that user; there is nothing more to say."""

        def steps() -> _Steps:
            yield b""
            return (yield from self._check(name, password))

        return Exchange(steps())

    def check(self, name: bytes, password: bytes) -> bool:
        """Return whether that is the password of that user, however long it takes."""
        exchange = self.begin_check(name, password)
        exchange.finish(b"")
        return exchange.succeeded

    def _known(self) -> dict[str, Callable[[], _Steps]]:
        known = {"PLAIN": self._plain, "CRAM-MD5": self._cram_md5}
        if _has_scramp():
            known |= {name: partial(self._scram, name) for name in _BY_MECHANISM}
        return known

    def _names(self, name: bytes) -> tuple[bytes, ...]:
        """Return what a user may be listed as: a name without a realm may have this host's."""
        return (name,) if b"@" in name else (name, name + b"@" + self._realm.encode())

    # -- passwords -------------------------------------------------------------------------

    def _check(self, name: bytes, password: bytes) -> _Steps:
        users = self._read_users()
        digest = self._digest(password)
        right = False
        hashed = []
        for user in users.find(*self._names(name)):
            for each in user.passwords:
                right |= hmac.compare_digest(digest, self._digest(each))
            if _PLAIN_ALGORITHM in user.keys:
                hashed.append(user.keys[_PLAIN_ALGORITHM])
        if right or self._was_right(name, hashed, digest):
            return True
        if not users.guess_iterations:
            return False
        return bool((yield partial(self._guess, name, password, hashed, users.guess_iterations)))

    def _digest(self, password: bytes) -> bytes:
        return hmac.digest(self._secret, password, "sha256")

    def _was_right(self, name: bytes, hashed: list[Keys], digest: bytes) -> bool:
        """Return whether the password was right before, as long as the line stays: it is quick."""
        right = False
        for keys in hashed:
            right |= hmac.compare_digest(digest, self._known_right.get((name, keys), b""))
        return right

    def _guess(self, name: bytes, password: bytes, hashed: list[Keys], iterations: int) -> bool:
        """Return whether a password is one of those; with at least so much work if it is not."""
        digest = self._digest(password)
        if self._was_right(name, hashed, digest):  # by now
            return True
        for expected in hashed:
            keys = derive_keys(password, _PLAIN_ALGORITHM, expected.salt, expected.iterations)
            if hmac.compare_digest(keys.stored_key, expected.stored_key):
                if len(self._known_right) >= _KEYS_KEPT_MAX:
                    self._known_right.clear()
                self._known_right[name, expected] = digest
                return True
            iterations -= expected.iterations
        if iterations > 0:
            derive_keys(password, _PLAIN_ALGORITHM, self._secret[:SALT_BYTES], iterations)
        return False

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
        return (yield from self._check(name, password))

    def _cram_md5(self) -> _Steps:
        # RFC 2195: the server begins; name, a blank, and a digest of the challenge
        if (yield b""):
            return False
        challenge = f"<{self._make_nonce()}@{self._realm or 'localhost'}>".encode()
        answer = yield challenge
        name, _, digest = answer.rpartition(b" ")
        users = self._read_users().find(*self._names(name))
        right = False
        for password in [each for user in users for each in user.passwords] or [b""]:
            expected = hmac.new(password, challenge, "md5").hexdigest().encode()
            right |= hmac.compare_digest(digest, expected) and bool(password)
        return right

    def _scram(self, mechanism: str) -> _Steps:
        # RFC 5802. The server has the last word, which the client answers with nothing.
        import scramp  # an extra, and only needed here

        message = yield b""
        if not message:
            message = yield b""
        try:
            # scramp knows no authorisation identity: it is taken out for it, and the header that
            # the client repeats in its last message is put back.
            flag, identity, bare = message.decode().split(",", 2)
            first = f"{flag},,{bare}"
            name = _scram_name(mechanism, first)
            if identity and identity != f"a={name}":
                return False
            candidates = yield from self._scram_keys(name.encode(), _BY_MECHANISM[mechanism])
            nonce = self._make_nonce()
            header = f"{flag},{identity},".encode()
            servers = []
            for keys in candidates:
                make_server = scramp.ScramMechanism(mechanism).make_server
                server = make_server(lambda _, keys=keys: keys, s_nonce=nonce)
                server.set_client_first(first)
                if identity:
                    server.gs2_header = SimpleNamespace(make_cbind_input=lambda _: header)
                # The same of each, as they have the salt in common.
                challenge = server.get_server_first().encode()
                servers.append(server)
            answer = (yield challenge).decode()
            proven = [server for server in servers if _is_proven(server, answer)]
            if not proven:
                return False
            rest = yield proven[0].get_server_final().encode()
        except (scramp.ScramException, ValueError, IndexError):
            return False
        return bool(rest == b"")

    def _scram_keys(self, name: bytes, algorithm: str) -> Generator[Work, Any, list[Keys]]:
        """Return what is to be proven, one of them; for an unknown user, what nobody can prove."""
        users = self._read_users()
        found = users.find(*self._names(name))
        hashed = [user.keys[algorithm] for user in found if algorithm in user.keys]
        salt = hmac.digest(self._secret, b"salt " + name, "sha256")[:SALT_BYTES]
        iterations = users.iterations
        if hashed:
            salt, _, _, iterations = hashed[0]
        passwords = [password for user in found for password in user.passwords]
        wanted = [(password, algorithm, salt, iterations) for password in passwords]
        # Whoever it is, as many are derived.
        for number in range(len(passwords), users.passwords_max):
            nobody = hmac.digest(self._secret, b"nobody %d %b" % (number, name), "sha256")
            wanted.append((nobody, algorithm, salt, users.iterations))
        derived = {each: self._derived[each] for each in wanted if each in self._derived}
        missing = [each for each in wanted if each not in derived]
        if missing:
            derived |= yield partial(self._derive, missing)
        candidates = [derived[each] for each in wanted[: len(passwords)]]
        candidates += [keys for keys in hashed if keys[::3] == (salt, iterations)]
        if not candidates:
            nothing = hmac.digest(self._secret, b"nobody " + name, _ALGORITHMS[algorithm][0])
            candidates.append(Keys(salt, nothing, nothing, iterations))
        return candidates

    def _derive(self, wanted: list[_Wanted]) -> dict[_Wanted, Keys]:
        if len(self._derived) + len(wanted) > _KEYS_KEPT_MAX:
            self._derived.clear()
        for each in wanted:
            self._derived[each] = self._derived.get(each) or derive_keys(*each)
        return {each: self._derived[each] for each in wanted}


def _scram_name(mechanism: str, message: str) -> str:
    """Return whose name stands in a client's first message."""
    import scramp

    names: list[str] = []

    def take(name: str) -> Keys:
        names.append(name)
        return Keys(bytes(SALT_BYTES), b"", b"", ITERATIONS)

    scramp.ScramMechanism(mechanism).make_server(take).set_client_first(message)
    return names[-1]


def _is_proven(server: Any, answer: str) -> bool:
    """Return whether a client's last message proves the password that this server knows."""
    import scramp

    try:
        server.set_client_final(answer)
    except scramp.ScramException:
        return False
    return True


def preload() -> None:
    """Import what logins may need: afterwards the process may not be able to."""
    if _has_scramp():
        import scramp  # noqa: F401


@cache
def _has_scramp() -> bool:
    return importlib.util.find_spec("scramp") is not None
