"""The process: its limits, its user, its place in the background, its pid and port files.

Plain synchronous steps, taken in memcached's order before the event loop starts: limits while
still root, sockets, then the new user, then the fork, and files last, as the new user and with
the final pid. Whatever cannot be had and matters raises `ConfigError` with memcached's words.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
from typing import TYPE_CHECKING, Final

from ..exits import EXIT_FAILURE, EXIT_NO_USER, EXIT_OS_ERROR, EXIT_USAGE, ConfigError

if TYPE_CHECKING:
    import pwd
    from collections.abc import Callable, Iterable

    from .listening import Endpoint
    from .log import Log

#: Where a service manager wants to be told how this process is. # sd_notify(3)
NOTIFY_VARIABLE: Final = "NOTIFY_SOCKET"
#: How many sockets it has opened for this process, and for which process. # sd_listen_fds(3)
LISTEN_VARIABLE: Final = "LISTEN_FDS"
LISTEN_PID_VARIABLE: Final = "LISTEN_PID"

#: Descriptors beside those of clients: listeners, the event loop's, the log, modules being read.
SPARE_DESCRIPTORS: Final = 64
#: Without these nothing runs at all.
_LEAST_DESCRIPTORS: Final = 24


def allow_core_dumps() -> None:
    """Raise the limit of core files as far as it goes (`-r`)."""
    # memcached: main
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    for wish in (resource.RLIM_INFINITY, hard):
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (wish, wish))
            break
        except (OSError, ValueError):
            continue
    if resource.getrlimit(resource.RLIMIT_CORE)[0] == 0:
        raise ConfigError("failed to ensure corefile creation", EXIT_OS_ERROR)


def raise_descriptor_limit(conn_limit: int, others: int = 0) -> None:
    """Allow so many connections (`-c`), and others beside; a limit that is already higher stays.

    If the system allows all connections but not our own descriptors beside them, the last few
    connections will find no descriptor, and that is dealt with when it happens.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = conn_limit + others + SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    least = max(conn_limit, _LEAST_DESCRIPTORS)
    for new_soft in (wanted, hard):
        if new_soft < max(soft, least):
            continue
        new_hard = hard if hard == resource.RLIM_INFINITY else max(hard, new_soft)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (new_soft, new_hard))
        except (OSError, ValueError):
            continue
        return
    if soft < least:
        raise ConfigError(
            "failed to set rlimit for open files."
            " Try starting as root or requesting smaller maxconns value.",
            EXIT_OS_ERROR,
        )


def connections_beside_links(conn_limit: int, others: int = 0) -> int:
    """Return how many clients may be served if links, and so many others, find descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return conn_limit
    return max(1, min(conn_limit, soft - others - SPARE_DESCRIPTORS))


def runs_as_root() -> bool:
    """Return whether this process is root's, or may become so."""
    return 0 in (os.getuid(), os.geteuid())


def account_to_become(user: str | None) -> pwd.struct_passwd | None:
    """Return the account of `user`, if we are root and must not stay so; None: we are not."""
    # memcached: main
    if not runs_as_root():
        return None
    import pwd  # not on every platform, and needed by root alone

    if not user:
        raise ConfigError("can't run as root without the -u switch", EXIT_USAGE)
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"can't find the user {user} to switch to", EXIT_NO_USER) from None


def drop_privileges(user: str | None, log: Log) -> None:
    """Become `user`, if we are root; otherwise do nothing."""
    entry = account_to_become(user)
    if entry is None:
        return
    log.give_to(entry.pw_uid, entry.pw_gid)
    try:
        os.setgroups([])
    except OSError as error:
        message = f"failed to drop supplementary groups: {error.strerror}"
        # Not permitted means that little is left to drop; a container may be set up so.
        if error.errno != errno.EPERM:
            raise ConfigError(message, EXIT_OS_ERROR) from None
        log.warning(message)
    try:
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except OSError:
        raise ConfigError(f"failed to assume identity of user {user}", EXIT_OS_ERROR) from None


def detach(*, keep_directory: bool, keep_output: bool) -> Callable[[int], None]:
    """Go on in a child in the background (`-d`); this returns in the child alone.

    The parent waits until the child calls what is returned, with an exit code, and exits with
    that; a child which dies before makes it exit with failure. Until then the child keeps its
    stderr, so that why it cannot start is read where it was started.
    """
    verdict, report = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(report)
        answer = os.read(verdict, 1)
        os._exit(answer[0] if answer else EXIT_FAILURE)
    os.close(verdict)
    os.setsid()
    if not keep_directory:
        os.chdir("/")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)

    def announce(exit_code: int) -> None:
        if not keep_output:
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
        os.write(report, bytes([exit_code]))
        os.close(report)

    return announce


def write_pid_file(path: str, log: Log) -> None:
    """Write the process id to `path`, complete from the moment it can be seen.

    memcached writes it with and without `-d`, and goes on without it when it cannot.
    """
    _write_whole(path, ".tmp", f"{os.getpid()}\n", log)


def remove_pid_file(path: str) -> None:
    """Remove the file with our process id; it may be gone, or another server's, already."""
    try:
        if _read_pid(path) == os.getpid():
            os.unlink(path)
    except OSError:
        pass


def _read_pid(path: str) -> int | None:
    """Return the process id in a file, if there is one; may raise `OSError`."""
    # Whatever stands there, it is not waited for.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        word = os.read(fd, 32).strip()
    finally:
        os.close(fd)
    return int(word) if word.isdigit() else None


def write_port_file(path: str, endpoints: Iterable[Endpoint], log: Log) -> None:
    """Write which ports were bound, for whoever asked for any free one."""
    lines = [
        f"{endpoint.transport.upper()}"
        f" {'INET' if endpoint.sock.family == socket.AF_INET else 'INET6'}:"
        f" {endpoint.sock.getsockname()[1]}\n"
        for endpoint in endpoints
        if endpoint.transport != "local"
    ]
    _write_whole(path, ".lck", "".join(lines), log)


def _write_whole(path: str, suffix: str, text: str, log: Log) -> None:
    draft = path + suffix
    try:
        with os.fdopen(_create(draft), "w") as file:
            file.write(text)
    except OSError as error:
        log.warning(f'Failed to open "{draft}": {error.strerror}')
        return
    try:
        os.rename(draft, path)
    except OSError as error:
        log.warning(f'Failed to rename "{draft}" to "{path}": {error.strerror}')
        os.unlink(draft)


def _create(path: str) -> int:
    """Create a file which is ours for certain: not what a link that lies there already points to.

    Where such files are, others may write, too.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o644)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, flags, 0o644)
