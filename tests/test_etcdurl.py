"""The URL of an etcd: what it may look like, and what is said where it does not."""

from __future__ import annotations

import pytest

from pymcd.config import Settings
from pymcd.etcdurl import EtcdUrl, decode_etcd_url, is_url, without_password
from pymcd.exits import ConfigError


@pytest.mark.parametrize(
    ("text", "endpoints", "prefix"),
    [
        ("etcd://h", ["h:2379"], "/pymcd"),
        ("etcd://h:5", ["h:5"], "/pymcd"),
        ("etcd://h:5/", ["h:5"], "/pymcd"),
        ("etcd://h:5/a/b", ["h:5"], "/a/b"),
        ("etcd://h:5/a/b//", ["h:5"], "/a/b"),
        ("etcd://e1,e2:5,e3/x", ["e1:2379", "e2:5", "e3:2379"], "/x"),
        ("etcd://e1,e1:2379", ["e1:2379"], "/pymcd"),
        ("etcd://[::1],[::1]:5", ["[::1]:2379", "[::1]:5"], "/pymcd"),
        ("etcd://127.0.0.1", ["127.0.0.1:2379"], "/pymcd"),
    ],
)
def test_hosts_and_prefix(text, endpoints, prefix):
    url = decode_etcd_url(text)
    assert url == EtcdUrl(tuple(endpoints), False, prefix, None, None, {})
    assert url.key_of("group") == f"{prefix}/group"


def test_user_and_files():
    url = decode_etcd_url("etcds://u%40x:p%3a%2F@h/x?cacert=/ca%20file&cert=c.pem&key=k.pem")
    assert (url.tls, url.user, url.password) == (True, "u@x", "p:/")
    assert url.files == {"cacert": "/ca file", "cert": "c.pem", "key": "k.pem"}
    url = decode_etcd_url("etcd://u@h?password-file=/secret")
    assert (url.user, url.password, url.files) == ("u", None, {"password-file": "/secret"})
    assert decode_etcd_url("etcd://u:@h").password == ""
    assert decode_etcd_url("etcd://u:a@b@h").password == "a@b"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://h", "http:// is no kind of witness"),
        ("ETCD://h", "ETCD:// is no kind of witness"),
        ("://h", ":// is no kind of witness"),
        ("etcd://", "'' is no host"),
        ("etcd:///x", "'' is no host"),
        ("etcd://h:", "'' is no port number"),
        ("etcd://h:x", "'x' is no port number"),
        ("etcd://h:70000", "'70000' is no port number"),
        ("etcd://h:0", "the port of an etcd cannot be 0"),
        ("etcd://h,", "'' is no host"),
        ("etcd://h,,i", "'' is no host"),
        ("etcd://h;i", "'h;i' is no host"),
        ("etcd://*", "'*' is no host"),
        ("etcd://a b", "'a b' is no host"),
        ("etcd://::1", "an IPv6 address is written [ADDRESS]:PORT"),
        ("etcd://fe80::1:2379", "an IPv6 address is written [ADDRESS]:PORT"),
        ("etcd://[::1", "an IPv6 address is written [ADDRESS]:PORT"),
        ("etcd://[::1]5", "an IPv6 address is written [ADDRESS]:PORT"),
        ("etcd://[h]:5", "only an IPv6 address stands in brackets"),
        ("etcd://" + ",".join("abcdefghij"), "there can be at most 9 hosts"),
        ("etcd://h/a b", "a prefix is of printable ASCII characters without blanks"),
        ("etcd://h/" + 600 * "x", "a prefix is of printable ASCII characters without blanks"),
        ("etcd://h?user=x", "'user' is none of cacert, cert, key, password-file"),
        ("etcds://h?cacert", "cacert is to name one file"),
        ("etcds://h?cacert=a&cacert=b", "cacert is to name one file"),
        ("etcd://h?cacert=a", "cacert is for TLS, which etcds:// asks for"),
        ("etcds://h?cert=a", "cert and key go together"),
        ("etcds://h?key=a", "cert and key go together"),
        ("etcd://@h", "there is no user before the @"),
        ("etcd://:p@h", "there is no user before the @"),
        ("etcd://u@h", "a user has one password: USER:PASSWORD@, or password-file"),
        ("etcd://u:p@h?password-file=x", "a user has one password: USER:PASSWORD@, or"
                                         " password-file"),
        ("etcd://h?password-file=x", "password-file is for a user, who is written USER@ before"
                                     " the hosts"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(text, reason):
    with pytest.raises(ConfigError) as caught:
        Settings(peers=("127.0.0.1:5",), witness=text)
    assert caught.value.message == (
        f"ERROR: Invalid witness {without_password(text)}: {reason}; HOST, HOST:PORT, [V6]:PORT or"
        " etcd://HOST[:PORT][,HOST...][/PREFIX] is possible."
    )
    assert caught.value.exit_code == 64


def test_the_password_is_not_shown():
    with pytest.raises(ConfigError) as caught:
        Settings(peers=("127.0.0.1:5",), witness="etcd://user:secret@h:0")
    assert "etcd://user:...@h:0" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "etcd://u:secret/secret@h",
        "etcd://u:secret?secret@h",
        "etcd://u:secret/?secret@h/x",
        "etcds://u:12/secret@h",
        "etcd://u:12?secret@h",
        "u:secret@etcd://h",
    ],
)
def test_nor_is_a_part_of_it(text):
    """Whatever it is that somebody did not quote."""
    with pytest.raises(ConfigError) as caught:
        Settings(peers=("127.0.0.1:5",), witness=text)
    assert "secret" not in caught.value.message


def test_an_at_of_a_file_is_quoted():
    url = decode_etcd_url("etcds://h:5?cacert=/ca%40home")
    assert url.files == {"cacert": "/ca@home"}
    assert decode_etcd_url("etcds://u:p@h?cacert=/ca@home").files == {"cacert": "/ca@home"}


def test_in_settings():
    settings = Settings(peers=("127.0.0.1:5",), witness="etcd://h/x")
    assert settings.witness == "etcd://h/x"
    assert settings.etcd is not None
    assert settings.etcd.key_of(settings.cluster_id) == "/x/pymcd"
    assert Settings(peers=("127.0.0.1:5",), witness="127.0.0.1:6").etcd is None
    assert not is_url("h:5")


def test_it_may_be_where_a_node_is():
    """A member of an etcd beside each node is what people have."""
    assert Settings(peers=("127.0.0.1:5",), witness="etcd://127.0.0.1:5").etcd is not None


def test_it_takes_two_nodes():
    with pytest.raises(ConfigError, match="A witness is for two nodes at least"):
        Settings(replication_listen=("127.0.0.1",), witness="etcd://h")
