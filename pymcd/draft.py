"""Settings in the making: values gather in the order in which they were given.

`build()` makes `Settings` of a `Draft`: some of memcached's rules depend on what was said and when
(`-U` without `-p`, `-o no_modern` after `slab_chunk_max`), and where it was said goes in front of
what is wrong. What a word does to a draft is in the table of `options`.
"""

from __future__ import annotations

from typing import Any

from .config import Settings, check_field
from .exits import ConfigError
from .limits import MEBIBYTE

# Settings that mean nothing to a server without peers.
ONLY_WITH_PEERS = {
    "replication-secret-file": "replication_secret_file",
    "replication-tls": "replication_tls",
    "replication-ack": "replication_ack",
    "witness": "witness",
}

ONLY_WITH_COUCHBASE = {"couchbase-name": "couchbase_name", "couchbase-peer": "couchbase_peers"}

ONLY_WITH_A_SOURCE = {
    "fill-from-login-file": "fill_from_login_file",
    "fill-from-tls": "fill_from_tls",
    "fill-from-ca-file": "fill_from_ca_file",
}


class Draft:
    """Settings in the making.

    `notices` are remarks for who runs with `-v`, `warnings` those for everybody, by the option that
    they are about: what it is given last counts. `where` is the place that is being read (see
    `Given`), and goes in front of what is wrong with it.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.notices: list[str] = []
        self.warnings: dict[str, str] = {}
        self.slab_chunk_max_given = False
        self.where = ""
        #: By setting, and by setting and word.
        self._places: dict[object, str] = {}

    def set(self, name: str, value: object) -> None:
        """Note the setting `name`; raise `ConfigError` if it is wrong in itself."""
        check_field(name, value)
        self.values[name] = value
        self._places[name] = self.where
        for word in value if isinstance(value, tuple) else (value,):
            self._places.setdefault((name, word), self.where)

    def get(self, name: str) -> Any:
        """Return what is noted for the setting `name`, or its default."""
        if name in self.values:
            return self.values[name]
        return Settings.__dataclass_fields__[name].default

    def warn(self, option: str, words: str) -> None:
        """Have everybody told this of an option; no words: there is nothing to tell."""
        if words:
            self.warnings[option] = words
        else:
            self.warnings.pop(option, None)

    def notice(self, words: str) -> None:
        """Remember a remark, once."""
        if words not in self.notices:
            self.notices.append(words)

    def build(self) -> Settings:
        """Settle what depends on other options, and return the settings, or raise `ConfigError`."""
        values = dict(self.values)
        places = dict(self._places)
        if self.get("item_size_max_bytes") > MEBIBYTE and not self.slab_chunk_max_given:
            # Even after `-o no_modern`. # memcached: main
            values.pop("slab_chunk_max_bytes", None)

        def follow(name: str, cause: str, value: object) -> None:
            if name not in values and value:
                values[name] = value
                places[name] = places.get(cause, "")

        follow("protocol", "enable_sasl", "binary" if self.get("enable_sasl") else None)
        follow("protocol", "auth_file", "ascii" if self.get("auth_file") is not None else None)
        follow("port", "udp_port", self.get("udp_port"))
        if not (self.get("peers") or self.get("replication_listen")):
            self._notice_idle(ONLY_WITH_PEERS, "--peer")
        if not self.get("couchbase"):
            self._notice_idle(ONLY_WITH_COUCHBASE, "--couchbase")
        if not self.get("fill_from"):
            self._notice_idle(ONLY_WITH_A_SOURCE, "--fill-from")
        try:
            return Settings(**values)
        except ConfigError as error:
            named = dict.fromkeys(places.get(field, "") for field in error.fields)
            raise error.at(", ".join(filter(None, named))) from None

    def _notice_idle(self, options: dict[str, str], needed: str) -> None:
        for option, name in options.items():
            if name in self.values:
                self.notice(f"--{option} has no effect without {needed}")
