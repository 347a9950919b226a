"""The tool `pymcd passwd FILE USER`: a line for a password file that does not show the password.

The password is asked for twice, or read as one line when standard input is no terminal; it is
neither an argument nor ever printed. The file is replaced as a whole, with its owner and mode; a
new one is for its owner alone.
"""

from __future__ import annotations

import getpass
import os
import secrets
import sys

from ..auth import ITERATIONS, ITERATIONS_MAX, SALT_BYTES, encode_hashed
from ..exits import EXIT_FAILURE, EXIT_USAGE, ConfigError
from .telling import complain

USAGE = "usage: pymcd passwd [--iterations N] FILE USER"
HELP = f"""\
{USAGE}

Sets the password of a user in a file for -Y or MEMCACHED_SASL_PWDB, hashed.
The password is asked for, or read from standard input. Other users stay as
they are; a new file is its owner's alone.

  --iterations N  how often it is hashed: what a login costs, and whoever steals
                  the file (default {ITERATIONS}, at most {ITERATIONS_MAX})"""
NEW_FILE_MODE = 0o600


def passwd(words: list[str]) -> int:
    """Set one user's password in a file; return the exit code."""
    try:
        iterations, path, name = _arguments(words)
        hashed = encode_hashed(_ask(name), secrets.token_bytes(SALT_BYTES), iterations)
        _replace_line(path, name.encode(), hashed)
    except ConfigError as error:
        complain(f"pymcd passwd: {error}")
        return error.exit_code
    except OSError as error:
        complain(f"pymcd passwd: {error.filename}: {error.strerror}")
        return EXIT_FAILURE
    except (KeyboardInterrupt, EOFError):
        return EXIT_FAILURE
    return 0


def _arguments(words: list[str]) -> tuple[int, str, str]:
    iterations = ITERATIONS
    if len(words) > 1 and words[0] == "--iterations":
        if not (words[1].isdecimal() and ITERATIONS <= int(words[1]) <= ITERATIONS_MAX):
            raise ConfigError(f"iterations must be {ITERATIONS} to {ITERATIONS_MAX}", EXIT_USAGE)
        iterations = int(words[1])
        words = words[2:]
    if len(words) != 2 or any(word.startswith("-") for word in words):
        raise ConfigError(USAGE, EXIT_USAGE)
    path, name = words
    if not name or not name.isprintable() or ":" in name or name != name.strip():
        raise ConfigError("a user's name holds no colon and no control characters", EXIT_USAGE)
    return iterations, path, name


def _ask(name: str) -> bytes:
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = getpass.getpass(f"Password for {name}: ")
        if getpass.getpass("Once more: ") != password:
            raise ConfigError("the passwords differ")
    if not password or "\0" in password:
        raise ConfigError("a password must not be empty, nor hold NUL")
    return password.encode(errors="surrogateescape")


def _replace_line(path: str, name: bytes, hashed: bytes) -> None:
    """Put the line in the place of the user's, or behind all others."""
    line = b"%b:%b" % (name, hashed)
    lines: list[bytes] = []
    status: os.stat_result | None = None
    if os.path.exists(path):
        status = os.stat(path)
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    kept = [each for each in lines if each.partition(b":")[0] != name]
    where = next(
        (number for number, each in enumerate(lines) if each.partition(b":")[0] == name), len(kept)
    )
    kept.insert(where, line)
    new_path = f"{path}.{os.getpid()}.new"
    descriptor = os.open(new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, NEW_FILE_MODE)
    try:
        with open(descriptor, "wb") as file:
            file.write(b"\n".join(kept) + b"\n")
            if status is not None:
                os.fchmod(descriptor, status.st_mode & 0o7777)
                if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, status.st_uid, status.st_gid)
        os.replace(new_path, os.path.realpath(path))
    except BaseException:
        os.unlink(new_path)
        raise
