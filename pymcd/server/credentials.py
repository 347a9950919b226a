"""Where logins are checked against: the files of `-S` and `-Y`, read for `auth`; and of the group.

`-S` looks at each login whether the file in MEMCACHED_SASL_PWDB has changed, so that a changed
password counts at once, and reads it then; `mech_list` in memcached.conf, found through
SASL_CONF_PATH, limits the mechanisms. `-Y` reads its file at the start and on SIGHUP, and keeps
what it had if the new one is of no use; so it is with the secrets that peers share. What goes wrong
is said in one line that names the file, never a line of it.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from typing import TYPE_CHECKING, Final

from .. import auth
from ..exits import ConfigError
from ..sources import read_secrets
from .files import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .files import State

USERS_VARIABLE: Final = "MEMCACHED_SASL_PWDB"
CONFIGURATION_VARIABLE: Final = "SASL_CONF_PATH"
#: Where memcached.conf is looked for if nothing says where: the file, or a folder that holds it.
CONFIGURATION_PLACES: Final = ("/etc/sasl/memcached.conf", "/etc/sasl2/memcached.conf")
CONFIGURATION_NAME: Final = "memcached.conf"

#: Nobody's password file is longer.
_FILE_MAX_BYTES: Final = 16 << 20
_NONCE_BYTES: Final = 16
_SECRET_BYTES: Final = 32


class SaslUsers:
    """The users of `-S`.

    Nobody can log in while the file cannot be read, or is empty, as in memcached.
    """

    def __init__(
        self,
        path: str,
        say: Callable[[str], None],
        realtime_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = path
        self._say = say
        self._realtime_ns = realtime_ns
        self._problem: str | None = None
        #: What was found in the file when it was in this state; None: look again.
        self._state: State | None = None
        self._users = auth.Users()

    def read(self) -> auth.Users:
        """Return those that the file has now; a problem is said when it appears."""
        state = state_of(self._path, realtime_ns=self._realtime_ns)
        if state is not None and state == self._state:
            return self._users
        self._state = state
        problem = None
        try:
            self._users = auth.decode_sasl_users(_contents(self._path))
            if not self._users:
                problem = f"the password file {self._path} names no user: nobody can log in"
        except OSError as error:
            self._users = auth.Users()
            self._state = None
            problem = f"cannot read the password file {self._path}: {error.strerror}"
        if problem is not None and problem != self._problem:
            self._say(problem)
        self._problem = problem
        return self._users


class TextUsers:
    """The users of `-Y`."""

    def __init__(self, path: str, say: Callable[[str], None]) -> None:
        """Raise `ConfigError` if the file is of no use."""
        self._path = os.path.abspath(path)  # a daemon changes its directory
        self._say = say
        self._users = self._load()

    def read(self) -> auth.Users:
        """Return those that there were when the file was last loaded."""
        return self._users

    def reload(self) -> None:
        """Load the file again; say so if that cannot be done, and keep the users."""
        try:
            self._users = self._load()
        except ConfigError as error:
            self._say(f"{error.message}; the users in use stay")

    def _load(self) -> auth.Users:
        try:
            return auth.decode_text_users(_contents(self._path))
        except OSError as error:
            problem = f"Could not open authfile [{self._path}] for reading, error {error.strerror}"
        except auth.MalformedError:
            problem = f"Authfile [{self._path}] has a malformed entry. Should be 'user:password'"
        raise ConfigError(problem)


class PeerSecrets:
    """What the nodes of a group know and nobody else (`--replication-secret-file`)."""

    def __init__(self, path: str, say: Callable[[str], None]) -> None:
        """Raise `ConfigError` if the file is of no use."""
        self._path = os.path.abspath(path)  # a daemon changes its directory
        self._say = say
        #: A node proves itself by the first, and takes each of others.
        self.secrets, _ = read_secrets(path)

    def reload(self) -> None:
        """Read the file again; say so if that cannot be done, and keep what there was."""
        try:
            self.secrets, warning = read_secrets(self._path)
        except ConfigError as error:
            self._say(f"{error.message}; the secrets in use stay")
        else:
            if warning:
                self._say(f"warning: {warning}")


def sasl_authenticator(
    say: Callable[[str], None], environment: Mapping[str, str] | None = None
) -> auth.Authenticator:
    """Return what checks SASL logins; says if there is nobody who could log in."""
    environment = os.environ if environment is None else environment
    path = environment.get(USERS_VARIABLE)
    if path:
        read_users = SaslUsers(os.path.abspath(path), say).read
        read_users()  # now, so that no client waits until a long file is read
    else:
        say(f"warning: {USERS_VARIABLE} names no password file: nobody can log in")
        read_users = auth.Users
    return authenticator_for(read_users, mechanisms=_configured_mechanisms(environment))


def authenticator_for(
    read_users: Callable[[], auth.Users], *, mechanisms: list[str] | None = None
) -> auth.Authenticator:
    """Return what checks logins of these users."""
    return auth.Authenticator(
        read_users,
        make_nonce=lambda: secrets.token_hex(_NONCE_BYTES),
        secret=secrets.token_bytes(_SECRET_BYTES),
        mechanisms=mechanisms,
        realm=socket.gethostname(),
    )


def _configured_mechanisms(environment: Mapping[str, str]) -> list[str] | None:
    """Return what `mech_list` allows; None: nothing is said about it."""
    named = environment.get(CONFIGURATION_VARIABLE)
    for place in (named,) if named else CONFIGURATION_PLACES:
        path = os.path.join(place, CONFIGURATION_NAME) if os.path.isdir(place) else place
        try:
            return auth.decode_mechanisms(_contents(path))
        except OSError:
            continue
    return None


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_FILE_MAX_BYTES)
