"""Where an etcd is to be had, as people write it:

`etcd://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...][/PREFIX][?NAME=VALUE[&...]]`

`etcds` is the same with TLS. The names behind `?` are those of etcdctl's options for files:
`cacert`, `cert`, `key`; and `password-file`, since others can read a command line. What would be
taken for a part of the URL is written as `%XX` in a name or password.

Owns that form alone: it opens no file, and looks up no host.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .addresses import AddressError, join_address, split_address

PORT: Final = 2379  # IANA's for clients of etcd
PREFIX: Final = "/pymcd"
#: More members than any etcd should have. # etcd: "FAQ", "What is maximum cluster size?"
ENDPOINTS_MAX: Final = 9
#: Who names a scheme means this, or is mistaken.
SCHEMES: Final = {"etcd": False, "etcds": True}
FORM: Final = "etcd://HOST[:PORT][,HOST...][/PREFIX]"
_FILES: Final = ("cacert", "cert", "key", "password-file")
_KEY_MAX_CHARACTERS: Final = 500


class EtcdUrl(NamedTuple):
    """The members of an etcd, how to log in there, and below what to keep a key."""

    endpoints: tuple[str, ...]  #: each `HOST:PORT` or `[V6]:PORT`
    tls: bool
    prefix: str
    user: str | None
    password: str | None  #: None: there is no user, or it is in a file
    files: dict[str, str]  #: by the names that stand in the URL

    def key_of(self, cluster_id: str) -> str:
        """Return the key of a group."""
        return f"{self.prefix}/{cluster_id}"


def is_url(text: str) -> bool:
    """Return whether this is more than a host and a port."""
    return "://" in text


def without_password(text: str) -> str:
    """Return what of a URL everybody may see."""
    scheme, _, rest = text.partition("://")
    scheme = scheme.rpartition("@")[2]
    login, at, hosts = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user}{':...' if colon else ''}{at}{hosts}"


def decode_etcd_url(text: str) -> EtcdUrl:
    """Take a URL apart; raise `ValueError`, which says what is wrong."""
    scheme, _, rest = text.partition("://")
    if "@" in scheme:
        raise ValueError("USER:PASSWORD@ stands behind the ://")
    if scheme not in SCHEMES:
        raise ValueError(f"{scheme}:// is no kind of witness")
    rest, _, query = rest.partition("?")
    place, _, path = rest.partition("/")
    if "@" not in place and "@" in path + query:
        # Nothing of that is shown: it is a password, for all that we know.
        raise ValueError(
            "in a password / and ? are written %2F and %3F, and in a file's name @ %40"
        )
    login, at, hosts = place.rpartition("@")
    path = path.strip("/")
    prefix = f"/{path}" if path else PREFIX
    if len(prefix) > _KEY_MAX_CHARACTERS or not all("!" <= each <= "~" for each in prefix):
        raise ValueError("a prefix is of printable ASCII characters without blanks")
    files = _decode_files(query)
    user, password = _decode_login(login) if at else (None, None)
    _check(SCHEMES[scheme], files, user, password)
    return EtcdUrl(
        tuple(dict.fromkeys(_decode_hosts(hosts))), SCHEMES[scheme], prefix, user, password, files
    )


def _decode_hosts(text: str) -> list[str]:
    words = text.split(",")
    if len(words) > ENDPOINTS_MAX:
        raise ValueError(f"there can be at most {ENDPOINTS_MAX} hosts")
    endpoints = []
    for word in words:
        try:
            host, port = split_address(word)
        except AddressError as error:
            raise ValueError(str(error)) from None
        if ":" in host and not word.startswith("["):
            raise ValueError("an IPv6 address is written [ADDRESS]:PORT")
        if word.startswith("[") and ":" not in host:
            raise ValueError("only an IPv6 address stands in brackets")
        if not host or not all("!" <= each <= "~" for each in host) or set(host) & set('*;@"%'):
            raise ValueError(f"{host!r} is no host")
        if port == 0:
            raise ValueError("the port of an etcd cannot be 0")
        endpoints.append(join_address(host, PORT if port is None else port))
    return endpoints


def _decode_login(text: str) -> tuple[str, str | None]:
    from urllib.parse import unquote  # which most servers need not load

    user, colon, password = text.partition(":")
    if not user:
        raise ValueError("there is no user before the @")
    return unquote(user), unquote(password) if colon else None


def _decode_files(query: str) -> dict[str, str]:
    from urllib.parse import unquote

    files = {}
    for word in query.split("&") if query else ():
        name, _, value = word.partition("=")
        if name not in _FILES:
            raise ValueError(f"{name!r} is none of {', '.join(_FILES)}")
        if not value or name in files:
            raise ValueError(f"{name} is to name one file")
        files[name] = unquote(value)
    return files


def _check(tls: bool, files: dict[str, str], user: str | None, password: str | None) -> None:
    """Raise ValueError if words do not go together."""
    if not tls and (with_tls := [name for name in files if name != "password-file"]):
        raise ValueError(f"{with_tls[0]} is for TLS, which etcds:// asks for")
    if ("cert" in files) != ("key" in files):
        raise ValueError("cert and key go together")
    if user is None and "password-file" in files:
        raise ValueError("password-file is for a user, who is written USER@ before the hosts")
    if user is not None and (password is None) != ("password-file" in files):
        raise ValueError("a user has one password: USER:PASSWORD@, or password-file")
