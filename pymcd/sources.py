"""What is read at the start: a configuration file, the environment, the secret of the pair.

Every source gives a list of `Given`: an option, its word, and the place to name when it is wrong;
`gather` lays the lists over each other, in one `Draft`. Three forms of file are told apart by the
first line that says something:

- options as on the command line, one a line, as in Debian's `memcached.conf`;
- `PORT USER MAXCONN CACHESIZE OPTIONS`, the environment file of Red Hat's service, which may hold
  other variables, too;
- TOML, with the long names as keys.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
from typing import TYPE_CHECKING

from .arguments import ANSWERED, Given, letters_of, split_arguments
from .draft import Draft
from .exits import ConfigError
from .options import BY_NAME, ENVIRONMENT_PREFIX, OPTIONS
from .spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from .options import Option

# A file longer than this is not a configuration.
CONFIG_MAX_BYTES = 1 << 20

# Nor is such a file a secret; and below this, trying them all is feasible.
SECRET_MAX_BYTES = 4096
SECRET_SHORT_BYTES = 16
# Two are enough to replace one. Each costs something for whoever knocks.
SECRETS_MAX = 8

# systemd sets these for what it starts, and wants it in the foreground.
_SYSTEMD_VARIABLES = ("INVOCATION_ID", "NOTIFY_SOCKET")

# No key of a TOML file is in capitals.
_RED_HAT_LINE = re.compile(r"(?:export\s+)?([A-Z_][A-Z0-9_]*)=(.*)")
_RED_HAT_OPTIONS = {
    "PORT": "--port=",
    "USER": "--user=",
    "MAXCONN": "--conn-limit=",
    "CACHESIZE": "--memory-limit=",
}

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})

# Kubernetes puts such a value into PYMCD_PORT where a service is named pymcd, and sets these beside
# it, also for a service named pymcd-peers.
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
_SERVICE_VARIABLE = re.compile(
    r".*_SERVICE_(HOST|PORT)(_\w+)?|.*_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?"
)


def gather(layers: Iterable[list[Given]]) -> Draft:
    """Lay sources over each other, least important first.

    An option in one source replaces the same option in the sources before it, except that the
    names of `-o` add up. Raises `ConfigError` which names the place.
    """
    remaining: list[Given] = []
    for layer in layers:
        said = {given.option.name for given in layer} - {"extended"}
        remaining = [given for given in remaining if given.option.name not in said] + layer
    draft = Draft()
    for given in remaining:
        draft.where = given.where
        if given.text is not None:
            with _named(given.where):
                given.option.apply(draft, given.text)
    draft.where = ""
    return draft


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """Put the place in front of what a `ConfigError` says."""
    try:
        yield
    except ConfigError as error:
        raise error.at(where) from None


def variable_of(option: Option) -> str:
    """Return the name of the variable that an option is read from."""
    return ENVIRONMENT_PREFIX + option.name.upper().replace("-", "_")


def misspelt(environment: Mapping[str, str]) -> list[str]:
    """Return what to say of variables that look like ours and are not."""
    known = [variable_of(option) for option in OPTIONS]
    return [
        f"{variable} belongs to no option{did_you_mean(variable, known)}"
        for variable, text in environment.items()
        if variable.startswith(ENVIRONMENT_PREFIX)
        and text
        and variable not in known
        and not _SERVICE_VARIABLE.fullmatch(variable)
        and not _SERVICE_ADDRESS.match(text)
    ]


def from_environment(environment: Mapping[str, str]) -> list[Given]:
    """Read `PYMCD_<LONG_NAME>`; an empty value is as good as none."""
    given: list[Given] = []
    for option in OPTIONS:
        variable = variable_of(option)
        text = environment.get(variable, "")
        if not text or option.name in ANSWERED or _SERVICE_ADDRESS.match(text):
            continue
        if option.is_flag:
            given += _flag(option, text, variable)
        else:
            given.append(Given(option, text, variable))
    return given


def _flag(option: Option, text: str, where: str) -> list[Given]:
    """Read yes or no; `verbose` may also be a number of steps."""
    if option.name == "verbose" and text.isascii() and text.isdigit():
        return [Given(option, "", where)] * min(int(text[:9]), 3) or [Given(option, None, where)]
    if text.lower() in _YES:
        return [Given(option, "", where)]
    if text.lower() in _NO:
        return [Given(option, None, where)]
    raise ConfigError(f"{where}: neither yes nor no: {text}")


def from_file(
    path: str, environment: Mapping[str, str], notice: Callable[[str], None] = lambda words: None
) -> list[Given]:
    """Read a configuration file, or raise `ConfigError` which names the line or key.

    `notice` is told of what is passed over.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(CONFIG_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"Could not open config file [{path}]: {error.strerror}") from None
    if len(content) > CONFIG_MAX_BYTES:
        raise ConfigError(f"{path}: longer than {CONFIG_MAX_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text") from None
    lines = [(f"{path}:{number}", line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(where, line) for where, line in lines if line and not line.startswith("#")]
    if not lines:
        return []
    first = next((line for _, line in lines if not line.startswith(";")), ";")
    if first.startswith("-") or first.split()[0] == "logfile":
        given = _from_option_lines(lines)
        if any(environment.get(name) for name in _SYSTEMD_VARIABLES):
            given = [one for one in given if one.option.name != "daemon"]
    elif _RED_HAT_LINE.match(first):
        given = _from_red_hat(lines, notice)
    else:
        given = _from_toml(path, text)
    for option, _, where in given:
        if option.name in ANSWERED or option.name == "config":
            raise ConfigError(f"{where}: '--{option.name}' is not for a configuration file")
    return given


def read_secrets(path: str) -> tuple[list[bytes], str]:
    """Return the secrets that peers share, and what to warn of, which is mostly nothing.

    Each line is one, without blanks around it; what is no text is one secret as it stands. Raises
    `ConfigError`.
    """
    content, warning = _read_private("secret", path)
    secrets = [line.strip() for line in content.splitlines() if line.strip()]
    if not secrets:
        raise ConfigError(f"Secret file [{path}] is empty")
    if not _is_text(secrets):
        # A line end that chance put there would leave secrets that are easily guessed.
        secrets = [content.strip()]
    if len(secrets) > SECRETS_MAX:
        raise ConfigError(f"Secret file [{path}] has more than {SECRETS_MAX} lines")
    if not warning and any(len(secret) < SECRET_SHORT_BYTES for secret in secrets):
        return secrets, (
            f"secret in [{path}] is short enough to be guessed: use {SECRET_SHORT_BYTES} bytes"
            " or more"
        )
    return secrets, warning


def read_login(path: str) -> tuple[bytes, str]:
    """Return a login as it is said to another server, and what to warn of, which is mostly nothing.

    The file has a line `user:password`, as that of `-Y`; the first counts. Raises `ConfigError`.
    """
    content, warning = _read_private("login", path)
    lines = [line for line in content.splitlines() if line.strip()]
    user, colon, password = lines[0].partition(b":") if lines else (b"", b"", b"")
    if not (user and colon and password):
        raise ConfigError(f"Login file [{path}] has no line user:password")
    # protocol.txt, "Authentication": a blank stands between the two.
    if b" " in user:
        raise ConfigError(f"Login file [{path}] has a user with a blank, who cannot log in")
    return user + b" " + password, warning


def _read_private(what: str, path: str) -> tuple[bytes, str]:
    """Return what is in a file that is not for everyone, and a warning if it is."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(SECRET_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"Could not open {what} file [{path}]: {error.strerror}") from None
    if len(content) > SECRET_MAX_BYTES:
        name = what.capitalize()
        raise ConfigError(f"{name} file [{path}] is longer than {SECRET_MAX_BYTES} bytes")
    if mode & stat.S_IROTH:
        return content, f"{what} file [{path}] can be read by everyone here: chmod o-r it"
    return content, ""


def _is_text(lines: list[bytes]) -> bool:
    try:
        return all(line.decode().replace("\t", " ").isprintable() for line in lines)
    except UnicodeDecodeError:
        return False


def _without_remark(line: str, *, in_words: bool = False) -> str:
    """Cut off what follows a # that begins a word, or that is in one; not so within quotes."""
    quote = ""
    before = " "
    escaped = False
    for index, character in enumerate(line):
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            if character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character == "#" and (in_words or before.isspace()):
            return line[:index]
        before = character
    return line


def _words(line: str) -> list[str]:
    """Split a line as a shell would."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _from_option_lines(lines: list[tuple[str, str]]) -> list[Given]:
    given: list[Given] = []
    # To Debian's script a remark may begin within a word.
    lines = [(where, _without_remark(line, in_words=True)) for where, line in lines]
    letters = letters_of(word for _, line in lines for word in line.split())
    for where, line in lines:
        with _named(where):
            if line.split()[0] == "logfile":
                # Debian's script for who starts memcached without a journal.
                continue
            if not line.startswith("-"):
                raise ConfigError(f"not an option: {line}")
            options = split_arguments(_words(line), letters)
            given += [one._replace(where=where) for one in options]
    return given


def _from_red_hat(lines: list[tuple[str, str]], notice: Callable[[str], None]) -> list[Given]:
    """Read lines as systemd reads an environment file, or a shell."""
    given: list[Given] = []
    rest = iter(lines)
    for where, line in rest:
        while line.endswith("\\"):
            line = line[:-1] + next(rest, ("", ""))[1]
        if line.startswith(";"):
            continue
        with _named(where):
            found = _RED_HAT_LINE.fullmatch(line)
            if not found:
                raise ConfigError(f"not a variable such as PORT=11211: {line}")
            name = found[1]
            if name != "OPTIONS" and name not in _RED_HAT_OPTIONS:
                notice(f"{where}: {name} is none of PORT, USER, MAXCONN, CACHESIZE, OPTIONS")
                continue
            value = " ".join(_words(_without_remark(found[2])))
            if not value:
                continue
            if name == "OPTIONS":
                words = _words(_without_remark(value))
            else:
                words = [_RED_HAT_OPTIONS[name] + value]
            given += [one._replace(where=where) for one in split_arguments(words)]
    return given


def _from_toml(path: str, text: str) -> list[Given]:
    import tomllib  # only who has such a file pays for it

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    given: list[Given] = []
    for key, value in table.items():
        option = BY_NAME.get(key.replace("_", "-"))
        where = f"{path}: {key}"
        if option is None:
            meant = did_you_mean(key.replace("_", "-"), BY_NAME)
            raise ConfigError(f"{where}: no such setting{meant}")
        given += _from_toml_value(option, value, where)
    return given


def _from_toml_value(option: Option, value: object, where: str) -> list[Given]:
    if option.is_flag:
        if isinstance(value, bool) or (option.name == "verbose" and isinstance(value, int)):
            return _flag(option, str(value), where)
        raise ConfigError(f"{where}: neither true nor false: {value}")
    if isinstance(value, list) and option.adds_up:
        return [given for one in value for given in _from_toml_value(option, one, where)]
    if option.name == "unix-mask" and not isinstance(value, str):
        raise ConfigError(f'{where}: write the octal digits in quotes, as "700"')
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"{where}: neither text nor a number: {value}")
    if "\0" in str(value):
        # Which no command line and no environment can hold, and no path.
        raise ConfigError(f"{where}: holds a NUL character")
    return [Given(option, str(value), where)]
