"""Who may come in: password files, PLAIN, CRAM-MD5, SCRAM."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
from base64 import b64decode

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from pymcd import auth
from pymcd.auth import (
    MECHANISMS,
    Authenticator,
    MalformedError,
    User,
    decode_mechanisms,
    decode_sasl_users,
    decode_text_users,
    derive_keys,
    encode_hashed,
    prepare,
)

SALT = b"0123456789abcdef"
HASHED = encode_hashed(b"pencil", SALT)
USERS = b"alice:secret\nbob@there:builder\ncarol@here:pa:ss\nhash:%b\n" % HASHED


def make(data: bytes = USERS, **options) -> Authenticator:
    numbers = itertools.count(1)
    return Authenticator(
        lambda: decode_sasl_users(data),
        make_nonce=lambda: f"nonce{next(numbers)}",
        secret=b"s" * 32,
        realm="here",
        **options,
    )


def log_in(authenticator: Authenticator, mechanism: str, *responses: bytes) -> tuple[list, bool]:
    """Return the challenges, and whether it succeeded."""
    exchange = authenticator.begin(mechanism)
    assert exchange is not None
    challenges = [exchange.finish(response) for response in responses]
    return challenges, exchange.succeeded


# -- files -------------------------------------------------------------------------------------


def test_sasl_users():
    users = decode_sasl_users(b"a:b\nno line\n\nc:d:e\r\nf:g\r\n:x\na::\n")
    assert len(users) == 4
    assert users.find(b"a") == [User((b"b",), {}), User((b"", b":"), {})]
    assert users.find(b"c") == [User((b"d", b"d:e"), {})]
    assert users.find(b"f", b"") == [User((b"g",), {}), User((b"x",), {})]
    assert users.find(b"no line") == []


def test_text_users():
    users = decode_text_users(b"a:b:c\nd:e\r\n")
    assert (users.find(b"a"), users.find(b"d")) == ([User((b"b:c",), {})], [User((b"e",), {})])
    assert decode_text_users(b"a:b").find(b"a") == [User((b"b",), {})]


def test_what_stands_before_one_of_many_colons_is_no_password():
    line = b":".join([b"x"] * 100_000)
    [user] = decode_sasl_users(b"a:" + line).find(b"a")
    assert user.passwords[-1] == line
    assert len(user.passwords) < 10


@pytest.mark.parametrize("data", [b"", b"a\n", b"a:b\n\nc:d\n", b"\n", b"# x\n", b"a:$scram$x\n"])
def test_a_malformed_file(data):
    with pytest.raises(MalformedError):
        decode_text_users(data)


def test_a_hashed_password():
    [user] = decode_sasl_users(b"x:" + HASHED + b":comment").find(b"x")
    assert user.passwords == ()
    assert set(user.keys) == {"sha-1", "sha-256", "sha-512"}
    assert user.keys["sha-256"] == derive_keys(b"pencil", "sha-256", SALT, auth.ITERATIONS)
    assert b"pencil" not in HASHED
    assert b":" not in HASHED


@pytest.mark.parametrize(
    "text",
    [
        b"$scram$",
        b"$scram$x$y$z",
        b"$scram$4096$####$sha-1=AA==.AA==",
        b"$scram$4096$AAA$sha-1=AA==.AA==",
        b"$scram$0$AAAA$sha-1=AA==.AA==",
        b"$scram$99999999999$AAAA$sha-1=AA==.AA==",
        b"$scram$4096$AAAA$\xff=AA==.AA==",
    ],
)
def test_a_hash_that_is_none_lets_nobody_in(text):
    authenticator = make(b"x:" + text + b"\n")
    assert not authenticator.check(b"x", text)


@given(st.binary(max_size=200))
def test_any_file_can_be_read(data):
    for file in (data, b"x:$scram$" + data, b"x:$scram$1$AAAA$" + data):
        decode_sasl_users(file).find(b"x", data)
        try:
            users = decode_text_users(file)
        except MalformedError:
            continue
        users.find(b"x", data)


def test_rfc_7677_example():
    salt = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    authenticator = Authenticator(
        lambda: decode_sasl_users(b"user:" + encode_hashed(b"pencil", salt)),
        make_nonce=lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        secret=b"",
    )
    nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert log_in(
        authenticator,
        "SCRAM-SHA-256",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"c=biws,r=" + nonce + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"",
    ) == (
        [
            b"r=" + nonce + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            None,
        ],
        True,
    )


@pytest.mark.parametrize(
    ("raw", "prepared"),
    [
        ("pencil", "pencil"),
        ("I\u00adX", "IX"),
        ("\u00a0", " "),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
    ],
)
def test_passwords_are_prepared(raw, prepared):
    assert prepare(raw.encode()) == prepared.encode()
    assert prepare(b"\xff") == b"\xff"


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"mech_list: plain cram-md5\n", ["PLAIN", "CRAM-MD5"]),
        (b"# x\nlog_level: 5\n mech_list :  plain\n", ["PLAIN"]),
        (b"mech_list:\n", []),
        (b"nothing", None),
        (b"", None),
    ],
)
def test_mech_list(data, names):
    assert decode_mechanisms(data) == names


# -- who and what ------------------------------------------------------------------------------


def test_mechanisms_offered():
    assert make(b"a:b\n").mechanisms() == list(MECHANISMS)
    # Nobody whose password is hashed could answer.
    assert "CRAM-MD5" not in make().mechanisms()
    assert make(mechanisms=["PLAIN", "DIGEST-MD5"]).mechanisms() == ["PLAIN"]
    assert make(mechanisms=["PLAIN"]).begin("CRAM-MD5") is None
    assert make(mechanisms=["DIGEST-MD5"]).begin("DIGEST-MD5") is None
    assert make().begin("NOPE") is None


def test_without_scramp(monkeypatch):
    monkeypatch.setattr(auth, "_has_scramp", lambda: False)
    auth.preload()
    assert make(b"").mechanisms() == ["CRAM-MD5", "PLAIN"]
    assert make().begin("SCRAM-SHA-256") is None


CHECKS = [
    (b"alice", b"secret", True),
    (b"alice", b"secre", False),
    (b"alice", b"", False),
    (b"alice@here", b"secret", False),
    (b"bob", b"builder", False),
    (b"bob@there", b"builder", True),
    (b"carol", b"pa", True),
    (b"carol@here", b"pa", True),
    (b"carol", b"pa:ss", True),
    (b"carol", b"pa:", False),
    (b"carol", b"pa:s", False),
    (b"nobody", b"", False),
    (b"hash", b"pencil", True),
    (b"hash", b"pencils", False),
    (b"hash", HASHED, False),
]


@pytest.mark.parametrize(("name", "password", "right"), CHECKS)
def test_check(name, password, right):
    assert make().check(name, password) is right


def test_a_hashed_password_is_derived_once(monkeypatch):
    calls = []

    def count(*arguments):
        calls.append(arguments)
        return derive_keys(*arguments)

    monkeypatch.setattr(auth, "derive_keys", count)
    authenticator = make()
    for password, right in ((b"no", False), (b"pencil", True), (b"no", False), (b"pencil", True)):
        assert authenticator.check(b"hash", password) is right
    assert len(calls) == 3
    assert authenticator.check(b"hash", b"pencil")
    assert len(calls) == 3


#: A user may be there more than once: to change a password, both are there for a time.
TWICE = b"".join(
    (
        b"plain:old\nplain:new\n",
        b"both:%b\nboth:new\n" % encode_hashed(b"old", SALT),
        b"hashed:%b\nhashed:%b\n"
        % (encode_hashed(b"old", SALT), encode_hashed(b"new", b"another salt 16 b")),
        b"alike:%b\nalike:%b\n" % (encode_hashed(b"old", SALT), encode_hashed(b"new", SALT)),
        b"realm@here:old\nrealm:new\n",
    )
)


@pytest.mark.parametrize("decode", [decode_sasl_users, decode_text_users])
@pytest.mark.parametrize("name", [b"plain", b"both", b"hashed", b"alike", b"realm"])
def test_of_a_user_listed_twice_both_passwords_are_right(name, decode):
    authenticator = Authenticator(
        lambda: decode(TWICE), make_nonce=lambda: "nonce", secret=b"s" * 32, realm="here"
    )
    for _ in range(2):
        for password, right in ((b"old", True), (b"new", True), (b"other", False)):
            assert authenticator.check(name, password) is right
            assert log_in(authenticator, "PLAIN", b"\0%b\0%b" % (name, password))[1] is right


@pytest.mark.parametrize("name", ["plain", "both", "alike", "realm"])
def test_scram_knows_both_passwords(name):
    authenticator = make(TWICE)
    for password, right in (("old", True), ("new", True), ("other", False)) * 2:
        assert scram(authenticator, "SCRAM-SHA-256", name, password) is right


def test_of_hashed_passwords_scram_knows_those_with_the_salt_of_the_first():
    # A client can prove something with one salt at a time.
    authenticator = make(TWICE)
    assert scram(authenticator, "SCRAM-SHA-256", "hashed", "old")
    assert not scram(authenticator, "SCRAM-SHA-256", "hashed", "new")


def test_cram_md5_knows_both_passwords():
    for password, right in ((b"old", True), (b"new", True), (b"other", False)):
        responses = (b"", cram(b"plain", password))
        assert log_in(make(b"plain:old\nplain:new\n"), "CRAM-MD5", *responses)[1] is right


# -- the time that an answer takes -------------------------------------------------------------


@pytest.fixture
def derived(monkeypatch):
    """Count the iterations for which keys are derived."""
    counts: list[int] = []

    def count(*arguments):
        counts.append(arguments[-1])
        return derive_keys(*arguments)

    monkeypatch.setattr(auth, "derive_keys", count)
    return counts


MIXED = b"".join(
    (
        b"plain:secret\nhashed:%b\n" % HASHED,
        b"dear:%b\n" % encode_hashed(b"pencil", SALT, 10_000),
        b"twice:%b\ntwice:%b\n" % (HASHED, HASHED),
        b"broken:$scram$4096$AAA$x\n",
    )
)


def test_a_wrong_password_takes_as_much_work_whoever_it_is_for(derived):
    authenticator = make(MIXED)
    assert authenticator.check(b"hashed", b"pencil")
    assert authenticator.check(b"plain", b"secret")
    for name in (b"nobody", b"plain", b"hashed", b"dear", b"twice", b"broken", b""):
        for _ in range(2):
            derived.clear()
            assert not authenticator.check(name, b"wrong")
            assert sum(derived) == 10_000


def test_where_no_password_is_hashed_there_is_no_work(derived):
    authenticator = make(b"a:b\n")
    for name, password in ((b"a", b"b"), (b"a", b"c"), (b"x", b"y")):
        exchange = authenticator.begin_check(name, password)
        assert exchange.step(b"") is None
    assert derived == []


def test_scram_takes_as_much_work_whoever_it_is_for(derived):
    authenticator = make(MIXED)
    for name in ("nobody", "plain", "hashed", "twice", "broken"):
        for expected in ([auth.ITERATIONS], []):  # kept for the next time
            derived.clear()
            assert not scram(authenticator, "SCRAM-SHA-256", name, "wrong")
            assert derived == expected


def test_scram_says_the_same_number_of_iterations_of_all(derived):
    authenticator = make(b"plain:secret\nhashed:%b\n" % encode_hashed(b"pencil", SALT, 5000))
    for name in (b"nobody", b"plain", b"hashed"):
        challenges, _ = log_in(authenticator, "SCRAM-SHA-256", b"n,,n=%b,r=abc" % name)
        assert challenges[0].endswith(b",i=5000")


def test_work_is_left_to_others(derived):
    authenticator = make(MIXED)
    for mechanism, message in (
        ("PLAIN", b"\0hashed\0pencil"),
        ("PLAIN", b"\0plain\0wrong"),
        ("SCRAM-SHA-256", b"n,,n=plain,r=abc"),
        ("SCRAM-SHA-256", b"n,,n=nobody,r=abc"),
    ):
        exchange = authenticator.begin(mechanism)
        assert exchange is not None
        work = exchange.step(message)
        assert callable(work)
        assert derived == []
        result = work()
        assert derived
        assert not callable(exchange.step(result))
        derived.clear()


def test_who_waits_for_a_look_at_the_same_password_needs_no_other(derived):
    authenticator = make(MIXED)
    exchanges = [authenticator.begin_check(b"hashed", b"pencil") for _ in range(3)]
    works = [exchange.step(b"") for exchange in exchanges]
    for exchange, work in zip(exchanges, works, strict=True):
        assert callable(work)
        assert exchange.step(work()) is None
        assert exchange.succeeded
    assert len(derived) == 1


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(auth, "_KEYS_KEPT_MAX", 3)
    data = b"".join(b"u%d:p\nh%d:%b\n" % (number, number, HASHED) for number in range(10))
    authenticator = make(data)
    for number in range(10):
        log_in(authenticator, "SCRAM-SHA-256", b"n,,n=u%d,r=abc" % number)
        assert len(authenticator._derived) <= 3
        assert authenticator.check(b"h%d" % number, b"pencil")
        assert len(authenticator._known_right) <= 3


# -- PLAIN -------------------------------------------------------------------------------------

PLAIN = [
    (b"\0alice\0secret", True),
    (b"alice\0alice\0secret", True),
    (b"\0alice \0secret", True),
    (b"bob\0alice\0secret", False),
    (b" \0alice\0secret", False),
    (b"\0alice\0wrong", False),
    (b"\0alice\0", False),
    (b"\0\0secret", False),
    (b"\0alice", False),
    (b"\0alice\0secret\0", False),
    (b"x", False),
]


@pytest.mark.parametrize(("message", "right"), PLAIN)
def test_plain(message, right):
    assert log_in(make(), "PLAIN", message) == ([None], right)
    # Or after an empty first word.
    assert log_in(make(), "PLAIN", b"", message) == ([b"", None], right)


# -- CRAM-MD5 ----------------------------------------------------------------------------------


def cram(name: bytes, password: bytes) -> bytes:
    return name + b" " + hmac.new(password, b"<nonce1@here>", "md5").hexdigest().encode()


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (cram(b"alice", b"secret"), True),
        (cram(b"alice", b"wrong"), False),
        (cram(b"nobody", b""), False),
        (cram(b"hash", b"pencil"), False),
        (cram(b"hash", b""), False),
        (b"alice", False),
        (b"", False),
        (b"alice \xff", False),
    ],
)
def test_cram_md5(answer, right):
    assert log_in(make(), "CRAM-MD5", b"", answer) == ([b"<nonce1@here>", None], right)


def test_cram_md5_is_begun_by_the_server():
    assert log_in(make(), "CRAM-MD5", b"alice x") == ([None], False)


# -- SCRAM -------------------------------------------------------------------------------------


def scram(
    authenticator: Authenticator,
    mechanism: str,
    name: str,
    password: str,
    empty_first: bool = False,
) -> bool:
    """Return whether a client is let in that says all it has to."""
    client = scramp.ScramClient([mechanism], name, password)
    exchange = authenticator.begin(mechanism)
    assert exchange is not None
    if empty_first:
        assert exchange.finish(b"") == b""
    first = exchange.finish(client.get_client_first().encode())
    assert first is not None
    client.set_server_first(first.decode())
    final = exchange.finish(client.get_client_final().encode())
    if final is not None:
        client.set_server_final(final.decode())
        assert exchange.finish(b"") is None
        assert exchange.succeeded
    return exchange.succeeded


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize(
    ("name", "password", "right"),
    [
        ("alice", "secret", True),
        ("carol", "pa", True),
        ("carol", "pa:ss", True),
        ("hash", "pencil", True),
        ("alice", "wrong", False),
        ("hash", "wrong", False),
        ("nobody", "wrong", False),
    ],
)
@pytest.mark.parametrize("empty_first", [False, True])
def test_scram(mechanism, name, password, right, empty_first):
    assert scram(make(), mechanism, name, password, empty_first) is right


@pytest.mark.parametrize(
    "message",
    [
        b"n,a=bob,n=alice,r=abc",
        b"",
        b"n,,n=alice",
        b"\xff\xff",
        b"p=tls-unique,,n=alice,r=abc",
        b"rubbish",
        b",,,,,",
    ],
)
def test_scram_rubbish(message):
    exchange = make().begin("SCRAM-SHA-256")
    assert exchange is not None
    exchange.finish(b"")
    assert exchange.finish(message) is None
    assert not exchange.succeeded


def scram_final(first_bare: bytes, header: bytes, challenge: bytes, password: bytes) -> bytes:
    """Return a client's last message, computed from RFC 5802 and not by the library."""
    nonce, salt, iterations = (part.split(b"=", 1)[1] for part in challenge.split(b","))
    salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(salt), int(iterations))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    without_proof = b"c=%b,r=%b" % (base64.b64encode(header), nonce)
    signed = b",".join((first_bare, challenge, without_proof))
    signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    return b"%b,p=%b" % (without_proof, base64.b64encode(proof))


@pytest.mark.parametrize(
    ("header", "repeated", "right"),
    [
        (b"n,,", b"n,,", True),
        (b"n,a=alice,", b"n,a=alice,", True),  # as libsasl2 always says it
        (b"n,a=alice,", b"n,,", False),
        (b"n,,", b"n,a=alice,", False),
    ],
)
def test_scram_with_an_identity(header, repeated, right):
    exchange = make().begin("SCRAM-SHA-256")
    assert exchange is not None
    challenge = exchange.finish(header + b"n=alice,r=abcdefgh")
    assert challenge is not None
    final = exchange.finish(scram_final(b"n=alice,r=abcdefgh", repeated, challenge, b"secret"))
    if right:
        assert final is not None
        assert exchange.finish(b"") is None
    assert exchange.succeeded is right


def test_scram_tells_nobody_who_exists():
    # The same user has the same salt each time, whether known or not.
    authenticator = make()
    salts = []
    for name in (b"nobody", b"nobody", b"alice", b"alice"):
        challenges, _ = log_in(authenticator, "SCRAM-SHA-256", b"n,,n=%b,r=abc" % name)
        salts.append(challenges[0].split(b",")[1:])
    assert salts[0] == salts[1] != salts[2] == salts[3]


def test_scram_needs_the_last_word():
    client = scramp.ScramClient(["SCRAM-SHA-256"], "alice", "secret")
    exchange = make().begin("SCRAM-SHA-256")
    assert exchange is not None
    client.set_server_first((exchange.finish(client.get_client_first().encode()) or b"").decode())
    assert exchange.finish(client.get_client_final().encode())
    assert not exchange.succeeded
    assert exchange.finish(b"more") is None
    assert not exchange.succeeded


@given(st.sampled_from(MECHANISMS), st.lists(st.binary(max_size=100), min_size=1, max_size=4))
def test_any_responses_raise_nothing_and_let_nobody_in(mechanism, responses):
    exchange = make(b"alice:secret\n").begin(mechanism)
    assert exchange is not None
    for response in responses:
        if exchange.finish(response) is None:
            break
    assert not exchange.succeeded
