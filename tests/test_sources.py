"""Configuration files and the environment: forms, precedence, and what is said of mistakes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given as given_by
from hypothesis import strategies as st

from pymcd.arguments import split_arguments
from pymcd.config import Settings
from pymcd.exits import ConfigError
from pymcd.sources import from_environment, from_file, gather, misspelt

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

MIB = 1 << 20

# As Debian's package installs it, comments shortened.
DEBIAN = """\
# memcached default config file
# This isn't read by the daemon itself.

# Run memcached as a daemon.
-d

# Log memcached's output to /var/log/memcached
logfile /var/log/memcached.log

# -v
-m 64
# Default connection port is 11211
-p 11211
-u memcache
-l 127.0.0.1
-l ::1
# -c 1024
-P /var/run/memcached/memcached.pid
"""

RED_HAT = """\
PORT="11212"
USER="memcached"
MAXCONN="2048"
CACHESIZE="128"
OPTIONS="-l 127.0.0.1,::1 -o 'hot_lru_pct=30,no_modern'"
"""

TOML = """\
# A first line which is a comment says nothing about the form.
port = 11212
listen = ["127.0.0.1", "[::1]:11213"]
memory-limit = 128
max-item-size = "2m"
slab_growth_factor = 1.5
unix-mask = "770"
disable-cas = true
disable-evictions = false
verbose = 2
extended = ["hot_lru_pct=30", "no_slab_automove,idle_timeout=5"]
"""


def read(tmp_path: pathlib.Path, content: str | bytes, environment: dict[str, str]) -> Settings:
    path = tmp_path / "conf"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return gather([from_file(str(path), environment)]).build()


def changed(settings: Settings) -> dict[str, Any]:
    return {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if getattr(settings, field.name) != field.default
    }


def test_debians_file_is_read_as_it_is(tmp_path):
    expected = {
        "daemon": True,
        "user": "memcache",
        "listen": ("127.0.0.1", "::1"),
        "pidfile": "/var/run/memcached/memcached.pid",
    }
    assert changed(read(tmp_path, DEBIAN, {})) == expected


@pytest.mark.parametrize("variable", ["INVOCATION_ID", "NOTIFY_SOCKET"])
def test_debians_file_does_not_leave_systemd_behind(variable, tmp_path):
    assert not read(tmp_path, DEBIAN, {variable: "x"}).daemon


def test_red_hats_file_is_read_as_it_is(tmp_path):
    settings = read(tmp_path, RED_HAT, {})
    got = (
        settings.port,
        settings.user,
        settings.conn_limit,
        settings.memory_limit_bytes,
        settings.listen,
        settings.hot_lru_pct,
        settings.lru_crawler,
    )
    assert got == (11212, "memcached", 2048, 128 * MIB, ("127.0.0.1", "::1"), 30, False)


def test_red_hats_file_may_leave_options_empty(tmp_path):
    assert changed(read(tmp_path, 'PORT="1"\n# none\nOPTIONS=""\n', {})) == {"port": 1}


@pytest.mark.parametrize(
    ("content", "expected", "passed_over"),
    [
        ('TZ=Europe/Berlin\nPORT="5"\n', {"port": 5}, ["1: TZ"]),
        ('PORT="5"\nLimitNOFILE=5', None, []),
        ('PORT="5"\nLD_PRELOAD=/lib/x.so  # faster\nUSER=\n', {"port": 5}, ["2: LD_PRELOAD"]),
        ("; systemd's remark\nPORT=5", {"port": 5}, []),
        ("PORT=5\n; systemd's remark\n# and a shell's\n-v=6", None, []),
        ("export PORT=5\nexport  X1='$Y'", {"port": 5}, ["2: X1"]),
        ("PORT=5 # the port\nMAXCONN='6'# 7", {"port": 5, "conn_limit": 6}, []),
        ("PORT=5\t# it's the port\nMAXCONN='6' # 7", {"port": 5, "conn_limit": 6}, []),
        ('OPTIONS="-l 127.0.0.1, -D \'#\' # not -v"', {"listen": ("127.0.0.1",),
                                                   "prefix_delimiter": "#",
                                                   "detail_enabled": True}, []),
        ("OPTIONS=-t 5 -v -l 127.0.0.1,::1,", {"threads": 5, "verbose": 1,
                                              "listen": ("127.0.0.1", "::1")}, []),
        ('OPTIONS="-t 5 \\\n  -v"\nPORT=5', {"threads": 5, "verbose": 1, "port": 5}, []),
        ('OPTIONS="-v >> /var/log/memcached.log 2>&1"', {"verbose": 1}, []),
        ("PORT=5\\", {"port": 5}, []),
    ],
)  # fmt: skip
def test_red_hats_file_may_hold_other_things(content, expected, passed_over, tmp_path):
    path = tmp_path / "conf"
    path.write_text(content)
    said: list[str] = []
    if expected is None:
        with pytest.raises(ConfigError):
            from_file(str(path), {}, said.append)
        return
    assert changed(gather([from_file(str(path), {}, said.append)]).build()) == expected
    assert said == [
        f"{path}:{each} is none of PORT, USER, MAXCONN, CACHESIZE, OPTIONS" for each in passed_over
    ]


def test_toml_takes_the_long_names(tmp_path):
    assert changed(read(tmp_path, TOML, {})) == {
        "port": 11212,
        "listen": ("127.0.0.1", "[::1]:11213"),
        "memory_limit_bytes": 128 * MIB,
        "item_size_max_bytes": 2 * MIB,
        "slab_growth_factor": 1.5,
        "unix_mask": 0o770,
        "disable_cas": True,
        "verbose": 2,
        "hot_lru_pct": 30,
        "slab_automove": 0,
        "idle_timeout_s": 5,
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", {}),
        ("# only a remark\n\n", {}),
        ("  -p 5\r\n-v\r\n", {"port": 5, "verbose": 1}),
        ("\ufeff-p 5", {"port": 5}),
        ("-p 5 -vv  # and what it's for", {"port": 5, "verbose": 2}),
        ("-m 65 # megabytes\n-l 127.0.0.1, # loopback", {"memory_limit_bytes": 65 * MIB,
                                                         "listen": ("127.0.0.1",)}),
        ("-P '/a #1' -u \"b #2\" # x", {"pidfile": "/a #1", "user": "b #2"}),
        ("-P /a\\#1 -u \\# # x", {"pidfile": "/a#1", "user": "#"}),
        ("-m 65# megabytes\n-p 5#x # y\n-v #'\n", {"memory_limit_bytes": 65 * MIB, "port": 5,
                                                  "verbose": 1}),
        ("-P '/run/with space' -D '#'", {"pidfile": "/run/with space", "prefix_delimiter": "#",
                                         "detail_enabled": True}),
        ("logfile /x\n--port=5\n", {"port": 5}),
        ("verbose = true", {"verbose": 1}),
        ("verbose = 0", {}),
        ("verbose = 9", {"verbose": 3}),
        ("listen = '127.0.0.1'", {"listen": ("127.0.0.1",)}),
        ("shutdown-timeout = 0.5", {"shutdown_timeout_s": 0.5}),
        ("peer = ['::1', '[::1]:5']", {"peers": ("[::1]:11212", "[::1]:5")}),
        (
            "couchbase = '*'\npeer = ['a', 'b']\ncouchbase-peer = ['a', 'b:5']\n"
            "replication-secret-file = 'x'",
            {
                "couchbase": "*",
                "peers": ("a:11212", "b:11212"),
                "couchbase_peers": ("a", "b:5"),
                "replication_secret_file": "x",
            },
        ),
        ("-X 5\n-v -x ::1\n-q 6", {"peers": ("[::1]:5",), "replication_port": 5,
                                   "replication_queue": 6, "verbose": 1}),
        ("-X  # not -x\n-p 5", {"disable_dumping": True, "port": 5}),
        ("prefix-delimiter = '/'", {"prefix_delimiter": "/", "detail_enabled": True}),
    ],
)  # fmt: skip
def test_forms_of_files(content, expected, tmp_path):
    assert changed(read(tmp_path, content, {})) == expected


MISTAKES: list[tuple[str | bytes, int, str]] = [
    ("-p 1\n-t 0\n", 1, "conf:2: Number of threads must be greater than 0"),
    ("# x\n\n--bogus\n", 1, "conf:3: unrecognized option '--bogus'"),
    ("-p", 1, "conf:1: option requires an argument -- 'p'"),
    ("-p 1\nport 5\n", 1, "conf:2: not an option: port 5"),
    ("-p 1\n-u 'x\n", 1, "conf:2: No closing quotation"),
    ("-p 1\n-h\n", 1, "conf:2: '--help' is not for a configuration file"),
    ("--config x", 1, "conf:1: '--config' is not for a configuration file"),
    ("-p 99999", 64, "conf:1: ERROR: Invalid port number 99999."),
    (
        "-v\n-m 1",
        64,
        "conf:2: Cannot set item size limit higher than 1/2 of memory max.",
    ),
    (
        "-I 33m\n-m 65",
        64,
        "conf:1, conf:2: Cannot set item size limit higher than 1/2 of memory max.",
    ),
    (
        "-l 127.0.0.1:x",
        71,
        "conf:1: failed to listen on one of interface(s) 127.0.0.1:x:"
        ' Invalid port number: "x"',
    ),
    ('PORT="1"\nlog=x', 1, "conf:2: not a variable such as PORT=11211: log=x"),
    ('PORT="1"\nPORT = 2', 1, "conf:2: not a variable such as PORT=11211: PORT = 2"),
    ('PORT="1"\nUSER="x', 1, "conf:2: No closing quotation"),
    ('PORT="1"\nMAXCONN=0', 1, "conf:2: Maximum connections must be greater than 0"),
    ("threads = 0", 1, "conf: threads: Number of threads must be greater than 0"),
    ("thread = 1", 1, "conf: thread: no such setting; did you mean threads?"),
    ("[port]\nx = 1", 1, "conf: port: neither text nor a number: {'x': 1}"),
    ("port = true", 1, "conf: port: neither text nor a number: True"),
    ("port = [1]", 1, "conf: port: neither text nor a number: [1]"),
    ('user = "a\\u0000"', 1, "conf: user: holds a NUL character"),
    ("disable-cas = 1", 1, "conf: disable-cas: neither true nor false: 1"),
    ("verbose = -1", 1, "conf: verbose: neither yes nor no: -1"),
    ("unix-mask = 0o700", 1, 'conf: unix-mask: write the octal digits in quotes, as "700"'),
    ("extended = ['x']", 1, 'conf: extended: Illegal suboption "x"'),
    ("help = true", 1, "conf: help: '--help' is not for a configuration file"),
    (b"-p 1\n\xff", 1, "conf:2: not UTF-8 text"),
    (b"#" * ((1 << 20) + 1), 1, "conf: longer than 1048576 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "exit_code", "message"), MISTAKES)
def test_a_mistake_names_its_place(content, exit_code, message, tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content, {})
    said = caught.value.message.replace(f"{tmp_path}/", "")
    assert (caught.value.exit_code, said) == (exit_code, message)


def test_a_mistake_in_toml_itself_is_told_in_its_words(tmp_path):
    with pytest.raises(ConfigError, match=r"conf: .*line 2, column 7"):
        read(tmp_path, "port = 1\nhello world\n", {})


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError) as caught:
        from_file(str(tmp_path), {})
    assert caught.value.message == f"Could not open config file [{tmp_path}]: Is a directory"


ENVIRONMENTS: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({}, {}),
    ({"PYMCD_PORT": "5", "PORT": "6"}, {"port": 5}),
    ({"PYMCD_PORT": ""}, {}),
    ({"PYMCD_PORT": "tcp://10.0.0.1:11211", "PYMCD_SERVICE_HOST": "10.0.0.1"}, {}),
    ({"PYMCD_LISTEN": "a,b"}, {"listen": ("a", "b")}),
    ({"PYMCD_DISABLE_CAS": "yes", "PYMCD_DAEMON": "0"}, {"disable_cas": True}),
    ({"PYMCD_VERBOSE": "2"}, {"verbose": 2}),
    (
        {"PYMCD_PEER": "localhost,::1", "PYMCD_NODE_ID": "a"},
        {"peers": ("localhost:11212", "[::1]:11212"), "node_id": "a"},
    ),
    ({"PYMCD_VERBOSE": "on"}, {"verbose": 1}),
    ({"PYMCD_VERBOSE": "0"}, {}),
    ({"PYMCD_EXTENDED": "hot_lru_pct=30,idle_timeout=5"}, {"hot_lru_pct": 30, "idle_timeout_s": 5}),
    ({"PYMCD_HELP": "1", "PYMCD_NO_SUCH": "1"}, {}),
    ({"PYMCD_UDP_PORT": "5"}, {"udp_port": 5, "port": 5}),
]


@pytest.mark.parametrize(("environment", "expected"), ENVIRONMENTS)
def test_the_environment(environment, expected):
    assert changed(gather([from_environment(environment)]).build()) == expected


MISSPELT: list[tuple[str, str, str]] = [
    ("PYMCD_MEMORY_LIMTI", "512", "; did you mean PYMCD_MEMORY_LIMIT?"),
    ("PYMCD_REPLICATON_PORT", "11212", "; did you mean PYMCD_REPLICATION_PORT?"),
    ("PYMCD_memory_limit", "512", "; did you mean PYMCD_MEMORY_LIMIT?"),
    ("PYMCD_COLOUR", "blue", ""),
]
#: Options, nothing, what is not ours, and what Kubernetes sets for the services pymcd, pymcd-peers.
NOT_MISSPELT = {
    "PYMCD_MEMORY_LIMIT": "512",
    "PYMCD_VERSION": "0.1.0",
    "PYMCD_MEMROY_LIMIT": "",
    "PYMCDX": "1",
    "PYMCD_SERVICE_HOST": "10.96.0.7",
    "PYMCD_SERVICE_PORT": "11211",
    "PYMCD_SERVICE_PORT_MEMCACHED": "11211",
    "PYMCD_PORT": "tcp://10.96.0.7:11211",
    "PYMCD_PORT_11211_TCP": "tcp://10.96.0.7:11211",
    "PYMCD_PORT_11211_TCP_PROTO": "tcp",
    "PYMCD_PORT_11211_TCP_PORT": "11211",
    "PYMCD_PORT_11211_TCP_ADDR": "10.96.0.7",
    "PYMCD_PEERS_SERVICE_HOST": "10.96.0.8",
    "PYMCD_PEERS_PORT": "tcp://10.96.0.8:11212",
    "PYMCD_PEERS_PORT_11212_TCP_ADDR": "10.96.0.8",
}


@pytest.mark.parametrize(("variable", "text", "more"), MISSPELT)
def test_a_variable_that_belongs_to_no_option(variable, text, more):
    assert misspelt({**NOT_MISSPELT, variable: text}) == [f"{variable} belongs to no option{more}"]


def test_a_mistake_in_the_environment_names_the_variable():
    with pytest.raises(ConfigError) as caught:
        gather([from_environment({"PYMCD_THREADS": "0"})])
    assert caught.value.message == "PYMCD_THREADS: Number of threads must be greater than 0"
    with pytest.raises(ConfigError) as caught:
        from_environment({"PYMCD_DISABLE_CAS": "perhaps"})
    assert caught.value.message == "PYMCD_DISABLE_CAS: neither yes nor no: perhaps"


def layers(file: str, environment: str, command_line: str, tmp_path: pathlib.Path) -> Settings:
    path = tmp_path / "conf"
    path.write_text(file)
    variables = dict(word.split("=", 1) for word in environment.split())
    given = split_arguments(command_line.split())
    return gather([from_file(str(path), {}), from_environment(variables), given]).build()


PRECEDENCE: list[tuple[str, str, str, dict[str, Any]]] = [
    ("-p 1", "", "", {"port": 1}),
    ("-p 1", "PYMCD_PORT=2", "", {"port": 2}),
    ("-p 1", "PYMCD_PORT=2", "-p 3", {"port": 3}),
    ("-p 1", "", "-p 3", {"port": 3}),
    ("-l a", "", "-l b -l c", {"listen": ("b", "c")}),
    ("-vvv", "", "-v", {"verbose": 1}),
    ("-vvv", "PYMCD_VERBOSE=0", "", {}),
    ("-C", "PYMCD_DISABLE_CAS=no", "", {}),
    ("", "PYMCD_DISABLE_CAS=no", "-C", {"disable_cas": True}),
    # What is overruled need not be right.
    ("-t 0", "", "-t 2", {"threads": 2}),
    # The names of -o add up; of the same name, the last word counts.
    (
        "-o hot_lru_pct=1,idle_timeout=1",
        "PYMCD_EXTENDED=hot_lru_pct=2,no_maxconns_fast",
        "-o hot_lru_pct=3,maxconns_fast",
        {"hot_lru_pct": 3, "idle_timeout_s": 1},
    ),
    ("-U 5", "", "-p 6", {"udp_port": 5, "port": 6}),
]


@pytest.mark.parametrize(("file", "environment", "command_line", "expected"), PRECEDENCE)
def test_precedence(file, environment, command_line, expected, tmp_path):
    assert changed(layers(file, environment, command_line, tmp_path)) == expected


def test_a_clash_names_only_places_outside_the_command_line(tmp_path):
    with pytest.raises(ConfigError) as caught:
        layers("-I 33m", "", "-m 65", tmp_path)
    assert caught.value.message == (
        f"{tmp_path}/conf:1: Cannot set item size limit higher than 1/2 of memory max."
    )


PEER = "HOST, HOST:PORT or [V6]:PORT is possible."
LISTEN = "failed to listen on one of interface(s)"
SECRET = "needs --replication-secret-file or --replication-tls"
ONE_PORT = "cannot be both for clients and for peers: choose another with"
SITE = "these clients need a host name or an IPv4 address."

# File, environment, command line; what is said first, and last.
BLAMED: list[tuple[str, str, str, str, str]] = [
    # memcached's options: on the command line the words are memcached's, too.
    ("", "", "-p 70000", "ERROR: Invalid port number 70000.", ""),
    ("", "PYMCD_PORT=70000", "", "PYMCD_PORT: ERROR: Invalid port number 70000.", ""),
    ("port = 70000", "", "", "conf: port: ERROR: Invalid port number 70000.", ""),
    ("", "PYMCD_UDP_PORT=x", "", "PYMCD_UDP_PORT: ERROR: Invalid port number x.", ""),
    ("udp-port = 70000", "", "", "conf: udp-port: ERROR: Invalid port number 70000.", ""),
    ("", "", "-l a:x", f'{LISTEN} a:x: Invalid port number: "x"', ""),
    ("", "PYMCD_LISTEN=a,[::1", "", f"PYMCD_LISTEN: {LISTEN} [::1: Invalid IPV6", '"[::1"'),
    ("listen = ['a', 'b:x']", "", "", f"conf: listen: {LISTEN} b:x: Invalid", '"x"'),
    # Of several words the bad one counts.
    ("-l a:x\n-l b", "", "", f"conf:1: {LISTEN} a:x: Invalid port number", ""),
    ("-l b\n-l notls:a", "", "", f"conf:2: {LISTEN} notls:a: 'notls' option is valid only", ""),
    ("-x a:b\n-x localhost", "", "", "conf:1: ERROR: Invalid peer a:b: 'b' is no port", PEER),
    # The pair.
    ("", "", "-x a:b", "-x: ERROR: Invalid peer a:b: 'b' is no port number;", PEER),
    ("", "", "--pee a:b", "--pee: ERROR: Invalid peer a:b: 'b' is no port number;", PEER),
    ("", "", "-x ::1 --peer a:0", "--peer: ERROR: Invalid peer a:0: the port of a peer", PEER),
    ("", "", "--peer ,", "--peer: ERROR: Empty peer.", ""),
    ("", "PYMCD_PEER=::1,a_:b:c", "", "PYMCD_PEER: ERROR: Invalid peer a_:b:c: more than", PEER),
    ("peer = '[::1'", "", "", "conf: peer: ERROR: Invalid peer [::1: an IPv6 address is", PEER),
    (
        "replication-listen = ['::1', '[a]:5']", "", "",
        "conf: replication-listen: ERROR: Invalid replication address [a]:5: only an IPv6",
        "; HOST, HOST:PORT, [V6]:PORT or * is possible.",
    ),
    (
        "", "PYMCD_PEER=::1", "--replication-listen a/b",
        "--replication-listen: ERROR: Invalid replication address a/b: 'a/b' is no host;", "",
    ),
    (
        "", "", "-x ::1 -X 70000", "-X: ERROR: Invalid replication port number 70000: 1 to",
        " for any free one.",
    ),
    ("", "PYMCD_REPLICATION_PORT=x", "", "PYMCD_REPLICATION_PORT: ERROR: Invalid", "free one."),
    ("", "", "-x ::1 -x b", "-x: ERROR: replication with b " + SECRET, ""),
    ("peer = '::1'", "PYMCD_REPLICATION_LISTEN=::1,*:5", "",
     "PYMCD_REPLICATION_LISTEN: ERROR: listening for peers on *:5 " + SECRET, ""),
    ("-x ::1\n-x b", "PYMCD_REPLICATION_LISTEN=::1", "", "conf:2: ERROR: replication with b ", ""),
    # One port for two.
    ("port = 11212", "", "--peer ::1", f"conf: port: ERROR: Port 11212 {ONE_PORT}",
     " -p or --replication-port."),
    ("udp-port = 11212", "", "--peer ::1", "conf: udp-port: ERROR: Port 11212 ", ""),
    ("-l a\n-l [::1]:7\n-X 7 -x ::1", "", "", f"conf:2, conf:3: ERROR: Port 7 {ONE_PORT}",
     " -l or --replication-port."),
    ("listen = '*'\nreplication-listen = ['::1', '127.0.0.1:7']", "PYMCD_PORT=7", "",
     f"PYMCD_PORT, conf: replication-listen: ERROR: Port 7 {ONE_PORT}",
     " -p or --replication-listen."),
    # The bucket.
    ("", "", "--couchbase [::1", "--couchbase: ERROR: Invalid address for --couchbase [::1: an",
     "; HOST, HOST:PORT, * or *:PORT is possible."),
    ("couchbase = '::1'", "", "", "conf: couchbase: ERROR: --couchbase [::1]:8091 needs", SITE),
    ("couchbase = '*'", "PYMCD_COUCHBASE_NAME=::1", "", "PYMCD_COUCHBASE_NAME: ERROR: Inv", SITE),
    ("couchbase = '*'\npeer = ['a', '::1']", "PYMCD_REPLICATION_TLS=1", "-o ssl_chain_cert=c,"
     "ssl_ca_cert=c", "conf: peer: ERROR: Clients of Couchbase cannot use '::1': ",
     "Name it with --couchbase-peer."),
    ("--couchbase *\n-x ::1\n--couchbase-peer a:x", "", "",
     "conf:3: ERROR: Invalid --couchbase-peer a:x: ", "or HOST:PORT:HTTP_PORT is possible."),
    ("couchbase = '*'", "PYMCD_PEER=::1", "--couchbase-peer=a,b",
     "--couchbase-peer, PYMCD_PEER: ERROR: --couchbase-peer is to be given once for each", ""),
    ("couchbase = '*'", "PYMCD_UNIX_SOCKET=/x", "-p 5", "conf: couchbase, PYMCD_UNIX_SOCKET: ", ""),
    ("couchbase = '*'", "PYMCD_PORT=0", "", "conf: couchbase, PYMCD_PORT: ERROR: --couchbase", ""),
    ("couchbase = '*'", "PYMCD_AUTH_FILE=/x", "", "conf: couchbase, PYMCD_AUTH_FILE: ERROR: ", ""),
]  # fmt: skip


@pytest.mark.parametrize(("file", "environment", "command_line", "first", "last"), BLAMED)
def test_a_bad_address_names_its_option_as_it_was_written(
    file, environment, command_line, first, last, tmp_path
):
    with pytest.raises(ConfigError) as caught:
        layers(file, environment, command_line, tmp_path)
    said = caught.value.message.replace(f"{tmp_path}/", "")
    assert said.startswith(first)
    assert said.endswith(last)


WORDS = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"-[a-zA-Z]{1,4}[0-9]{0,6}", fullmatch=True),
    st.from_regex(r"--[a-z-]{1,14}(=[0-9a-z,=-]{0,8})?", fullmatch=True),
    st.sampled_from(["-o", "-l", "-p", "-I", "-m", "1k", "2m", "99", "-1", "modern,no_modern"]),
    st.from_regex(r"(slab_sizes|slab_chunk_max|hot_lru_pct|hashpower)=[0-9-]{0,9}", fullmatch=True),
)


def outcome(build: Callable[[], Settings]) -> Settings | ConfigError:
    try:
        return build()
    except ConfigError as error:
        return error


@pytest.mark.slow
@given_by(st.lists(WORDS, max_size=6))
def test_any_words_give_settings_or_a_config_error(words):
    def build() -> Settings:
        return gather([split_arguments(words)]).build()

    got = outcome(build)
    assert isinstance(got, Settings) or (got.message and got.exit_code in (1, 64, 71))


@pytest.mark.slow
@given_by(st.binary(max_size=60), st.sampled_from([b"", b"-p 1\n", b"PORT=1\n", b"port=1\n"]))
def test_any_file_gives_settings_or_a_config_error(tmp_path_factory, content, start):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(start + content)
    got = outcome(lambda: gather([from_file(str(path), {})]).build())
    assert isinstance(got, Settings) or (got.message and got.exit_code in (1, 64, 71))
