"""The table of options: what each row does, by every way to say it, and that none is forgotten."""

from __future__ import annotations

import re
import types
import typing
from typing import Any

import pytest

from pymcd import config
from pymcd.arguments import ANSWERED, split_arguments
from pymcd.config import Settings
from pymcd.draft import ONLY_WITH_A_SOURCE, ONLY_WITH_COUCHBASE, ONLY_WITH_PEERS, Draft
from pymcd.exits import EXIT_USAGE, ConfigError
from pymcd.options import (
    BY_NAME,
    EXTENDED,
    EXTENDED_HELP,
    OPTIONS,
    REPCACHED_LETTERS,
    Option,
)
from pymcd.sources import from_environment, from_file, gather

MIB = 1 << 20

# Option -> a word for it, which is empty for a flag, and what it makes of the settings.
EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "port": ("5", {"port": 5}),
    "udp-port": ("6", {"udp_port": 6}),
    "unix-socket": ("/s", {"unix_socket": "/s"}),
    "unix-mask": ("750", {"unix_mask": 0o750}),
    "listen": ("a,[::1]:5", {"listen": ("a", "[::1]:5")}),
    "listen-backlog": ("7", {"listen_backlog": 7}),
    "daemon": ("", {"daemon": True}),
    "pidfile": ("/p", {"pidfile": "/p"}),
    "user": ("u", {"user": "u"}),
    "enable-coredumps": ("", {"enable_coredumps": True}),
    "lock-memory": ("", {"lock_memory": True}),
    "enable-largepages": ("", {}),
    "threads": ("8", {"threads": 8}),
    "napi-ids": ("2", {"num_napi_ids": 2}),
    "verbose": ("", {"verbose": 1}),
    "memory-limit": ("128", {"memory_limit_bytes": 128 * MIB}),
    "disable-evictions": ("", {"disable_evictions": True}),
    "max-item-size": ("2m", {"item_size_max_bytes": 2 * MIB}),
    "slab-growth-factor": ("1.5", {"slab_growth_factor": 1.5}),
    "slab-min-size": ("96", {"slab_min_size_bytes": 96}),
    "memory-file": ("/m", {"memory_file": "/m"}),
    "conn-limit": ("9", {"conn_limit": 9}),
    "max-reqs-per-event": ("10", {"reqs_per_event": 10}),
    "disable-cas": ("", {"disable_cas": True}),
    "protocol": ("binary", {"protocol": "binary"}),
    "prefix-delimiter": ("/", {"prefix_delimiter": "/", "detail_enabled": True}),
    "enable-shutdown": ("", {"enable_shutdown": True}),
    "disable-flush-all": ("", {"disable_flush_all": True}),
    "disable-dumping": ("", {"disable_dumping": True}),
    "disable-watch": ("", {"disable_watch": True}),
    "enable-sasl": ("", {"enable_sasl": True}),
    "auth-file": ("/a", {"auth_file": "/a"}),
    "login-timeout": ("1.5", {"login_timeout_s": 1.5}),
    "login-failure-delay": ("0.5", {"login_failure_delay_s": 0.5}),
    "enable-ssl": ("", {"enable_ssl": True}),
    "peer": ("a,b:5", {"peers": ("a", "b:5")}),
    "replication-listen": ("*:5,::1", {"replication_listen": ("*:5", "::1")}),
    "replication-port": ("11213", {"replication_port": 11213}),
    "replication-secret-file": ("/r", {"replication_secret_file": "/r"}),
    "replication-tls": ("", {"replication_tls": True}),
    "replication-ack": ("strict", {"replication_ack": "strict"}),
    "replication-ack-timeout": ("0.5", {"replication_ack_timeout_s": 0.5}),
    "replication-queue": ("2k", {"replication_queue": 2048}),
    "replication-backlog": ("1g", {"replication_backlog_bytes": 1 << 30}),
    "node-id": ("n", {"node_id": "n"}),
    "cluster-id": ("c", {"cluster_id": "c"}),
    "sync-timeout": ("5", {"sync_timeout_s": 5.0}),
    "force-empty": ("", {"force_empty": True}),
    "witness": ("w:5", {"witness": "w:5"}),
    "quorum-timeout": ("2.5", {"quorum_timeout_s": 2.5}),
    "tombstone-ttl": ("60", {"tombstone_ttl_s": 60.0}),
    "fill-from": ("old:11", {"fill_from": "old:11"}),
    "fill-from-login-file": ("/l", {"fill_from_login_file": "/l"}),
    "fill-from-tls": ("", {"fill_from_tls": True}),
    "fill-from-ca-file": ("/c", {"fill_from_ca_file": "/c"}),
    "couchbase": ("*:91", {"couchbase": "*:91"}),
    "couchbase-name": ("h", {"couchbase_name": "h"}),
    "couchbase-peer": ("a:1:2,b", {"couchbase_peers": ("a:1:2", "b")}),
    "extended": ("no_maxconns_fast,idle_timeout=5", {"maxconns_fast": False, "idle_timeout_s": 5}),
    "config": ("/c", {}),
    "log-file": ("/l", {"log_file": "/l"}),
    "log-format": ("json", {"log_format": "json"}),
    "http": ("*:11333", {"http": "*:11333"}),
    "drain-delay": ("1.5", {"drain_delay_s": 1.5}),
    "shutdown-timeout": ("2.5", {"shutdown_timeout_s": 2.5}),
    "help": ("", {}),
    "license": ("", {}),
    "version": ("", {}),
}
NAMES = list(EXAMPLES)


def noted(option: Option, word: str) -> dict[str, Any]:
    """Return what an option makes of a draft."""
    draft = Draft()
    option.apply(draft, word)
    return draft.values


def fits(value: object, kind: Any) -> bool:
    """Return whether a value is of the type that an annotation says."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(each, arguments[0]) for each in value)
    return type(value) is kind


def test_no_row_is_forgotten():
    assert [option.name for option in OPTIONS] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_a_row_does(name):
    word, expected = EXAMPLES[name]
    option = BY_NAME[name]
    assert option.is_flag == (word == "")
    got = noted(option, word)
    assert got == expected
    kinds = typing.get_type_hints(Settings, vars(config))
    assert [field for field, value in got.items() if not fits(value, kinds[field])] == []
    # The word is not what the setting is without.
    assert [field for field, value in got.items() if value == Draft().get(field)] == []


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*ANSWERED, "config")])
def test_a_row_is_said_in_every_way(name, tmp_path):
    word, expected = EXAMPLES[name]
    option = BY_NAME[name]
    lines = [f"--{name}" if option.is_flag else f"--{name}={word}"]
    if option.letter:
        lines.append(f"-{option.letter}{word}")
    toml = "true" if option.is_flag else f'"{word}"'
    lines += [f"{name} = {toml}", f"{name.replace('-', '_')} = {toml}"]
    for line in lines:
        path = tmp_path / "conf"
        path.write_text(line)
        assert gather([from_file(str(path), {})]).values == expected, line
        if line.startswith("-"):
            assert gather([split_arguments([line])]).values == expected, line
    variable = "PYMCD_" + name.upper().replace("-", "_")
    assert gather([from_environment({variable: word or "yes"})]).values == expected


@pytest.mark.parametrize("name", NAMES)
def test_an_option_adds_up_or_the_last_word_counts(name):
    word, expected = EXAMPLES[name]
    option = BY_NAME[name]
    draft = Draft()
    if option.adds_up:
        for part in word.split(","):
            option.apply(draft, part)
        assert draft.values == expected
    elif name != "verbose":
        option.apply(draft, word)
        option.apply(draft, word)
        assert draft.values == expected


# "default 64k)", "default 0, never)", "default ':')"
DEFAULT = re.compile(r"\(default '?([^ ,;)']+)'?[,;)]")


@pytest.mark.parametrize("name", [n for n in NAMES if DEFAULT.search(BY_NAME[n].help)])
def test_the_default_that_is_told_is_that_of_the_settings(name):
    found = DEFAULT.search(BY_NAME[name].help)
    assert found is not None
    if found[1] == "all":
        return
    got = noted(BY_NAME[name], found[1])
    (field,) = (field for field in EXAMPLES[name][1] if field != "detail_enabled")
    assert got[field] == Draft().get(field)


@pytest.mark.parametrize(
    "row", [row for row in EXTENDED_HELP if DEFAULT.search(EXTENDED_HELP[row])]
)
def test_the_default_that_is_told_after_o_is_that_of_the_settings(row):
    found = DEFAULT.search(EXTENDED_HELP[row])
    assert found is not None
    name = re.sub(r"^\[no_\]|[\[=].*", "", row)
    word = {"on": name, "off": f"no_{name}"}.get(found[1], f"{name}={found[1]}")
    for field, value in noted(BY_NAME["extended"], word).items():
        assert value == Draft().get(field), field


def test_the_help_for_o_names_what_there_is():
    told = set()
    for row in EXTENDED_HELP:
        for each in row.split(", "):
            name = re.sub(r"[\[=].*", "", each.removeprefix("[no_]"))
            told |= {name, f"no_{name}"} if each.startswith("[no_]") else {name}
    assert told <= set(EXTENDED)
    without_effect = {name for name in EXTENDED if tried(name).notices}
    # That it has no effect is said when the server starts, as memcached does.
    assert set(EXTENDED) - told - without_effect == {"ssl_kernel_tls"}


def tried(name: str) -> Draft:
    """Return a draft to which a name of `-o` was applied, with a word that it takes, or none."""
    for word in ("1", "20", "jenkins", "resident", "96-192", None):
        draft = Draft()
        try:
            EXTENDED[name](draft, word)
        except ConfigError:
            continue
        return draft
    raise AssertionError(name)


def test_every_setting_can_be_said():
    said = {field for _, fields in EXAMPLES.values() for field in fields}
    for name in EXTENDED:
        said |= set(tried(name).values)
    assert set(Settings.__dataclass_fields__) == said


def test_tables_beside_the_options_name_options():
    for table in (ONLY_WITH_PEERS, ONLY_WITH_COUCHBASE, ONLY_WITH_A_SOURCE):
        for name, field in table.items():
            assert list(EXAMPLES[name][1]) == [field]
    assert {letter: option.name for letter, option in REPCACHED_LETTERS.items()} == {
        "X": "replication-port",
        "q": "replication-queue",
    }


def test_every_row_has_a_help_that_fits_the_others():
    for option in OPTIONS:
        assert option.help
        assert not option.help.endswith(".")
        assert option.name == option.name.lower()
        assert option.metavar == option.metavar.upper()


# Option, word, what is noted.
EDGES: list[tuple[str, str, object]] = [
    ("port", "-1", -1),
    ("port", " 12x", 12),
    ("port", "+7", 7),
    ("udp-port", "65535", 65535),
    ("unix-mask", "7777", 0o7777),
    ("unix-mask", "0", 0),
    ("unix-socket", "", None),
    ("listen-backlog", "-1", -1),
    ("memory-limit", "1 MB", MIB),
    ("max-item-size", "3K", 3 << 10),
    ("max-item-size", "1x", 1),
    ("slab-growth-factor", "1.25e0x", 1.25),
    ("conn-limit", "2147483647", 2147483647),
    ("login-timeout", "0", 0.0),
    ("login-failure-delay", "6e1", 60.0),
    ("replication-queue", "1", 1),
    ("replication-queue", "2M", 2 * MIB),
    ("replication-backlog", "0", 0),
    ("replication-backlog", "5kb", 5 << 10),
    ("replication-port", "-1", -1),
    ("listen", "a, a;b", ("a", "b")),
    ("listen", "a,", ("a",)),
    ("listen", ",a,,b;", ("a", "b")),
    ("peer", " a , b", ("a", "b")),
    ("peer", "a,a", ("a",)),
    ("couchbase", "", None),
    ("http", "", None),
    ("drain-delay", "0", 0.0),
    ("prefix-delimiter", "ab", "a"),
]


@pytest.mark.parametrize(("name", "word", "value"), EDGES)
def test_edges(name, word, value):
    assert next(iter(noted(BY_NAME[name], word).values())) == value


REFUSED = [
    *[("port", word) for word in ("", "x", "-2", "65536")],
    *[("unix-mask", word) for word in ("", "8", "10000")],
    *[("memory-limit", word) for word in ("", "2g", "x")],
    *[("login-timeout", word) for word in ("", "-1", "nan", "inf", "1s", "1_0", "\u0661")],
    *[("login-failure-delay", word) for word in ("60.1", "-0.1")],
    *[("replication-queue", word) for word in ("", "0", "1.5k", "-1", "2147483648")],
    *[("replication-backlog", word) for word in ("", "-1", "1t", "1025g", "\u0661")],
    *[("replication-ack-timeout", word) for word in ("0", "60.1", "nan")],
    *[("replication-port", word) for word in ("", "0", "-2", "1x", "\u0661")],
    *[("tombstone-ttl", word) for word in ("0", "inf")],
    *[("node-id", word) for word in ("-", "a b", "n" * 65)],
    *[("threads", word) for word in ("0", "x", "-1")],
    *[("slab-growth-factor", word) for word in ("1", "x", "1e999")],
    *[("listen", word) for word in ("", ",", ";", " , ;")],
    *[("peer", word) for word in ("", ",", " , ")],
    *[("drain-delay", word) for word in ("", "-1", "1s")],
    *[("extended", word) for word in ("x", "hot_lru_pct", "hot_lru_pct=80", ",")],
]


@pytest.mark.parametrize(("name", "word"), REFUSED)
def test_what_a_row_refuses(name, word):
    with pytest.raises(ConfigError):
        noted(BY_NAME[name], word)


@pytest.mark.parametrize("word", ["", "a b", "-1", "abc", "nan", "x" * 300, "\u0661"])
@pytest.mark.parametrize("name", [each.name for each in OPTIONS if each.own and not each.is_flag])
def test_a_bad_word_for_an_option_of_ours_is_wrong_usage(name, word):
    """What is memcached's, its `-D` as well, has memcached's exit codes, mostly 1."""
    codes = {1 if BY_NAME[name].is_memcacheds else EXIT_USAGE}
    refusals: set[int] = set()
    try:
        noted(BY_NAME[name], word)
    except ConfigError as error:
        refusals.add(error.exit_code)
    assert refusals <= codes
