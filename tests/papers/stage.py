"""Hosts on which printed commands are typed, and nothing of this machine is touched.

A host is a shell in namespaces of its own: a network (with a cable to the other hosts), a name,
processes, and its own /etc, /run, /var/lib and home. When the shell ends, all that it began ends.
A *user* is the one that started the tests by another number, and without root's rights: he can
read what that one can.

Root has several hosts; who is not root has one, as it takes root to lay a cable.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .blocks import HERE, ROOT, Block, Command

if TYPE_CHECKING:
    from collections.abc import Mapping

#: As the papers have them.
ADDRESSES = {
    "cache-1": "10.0.0.5",
    "cache-2": "10.0.0.6",
    "cache-3": "10.0.0.7",
    "old-1": "10.0.0.4",
    "redis-1": "10.0.0.8",
    "web-1": "10.0.0.20",
}
#: How slow a machine may be. What is printed takes a second or two, if nothing is installed, and a
#: minute (`pytest -n 4`) where others want as much of its CPUs six times over.
PATIENCE_S = 180.0
STANDINS = Path(__file__).parent / "standins"
PATH = f"{STANDINS}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
#: What of this machine a host has a copy of, or nothing.
_COPIED = ("/etc",)
_EMPTY = ("/run", "/var/lib", "/var/log", "/opt", "/srv")
#: What has to be there yet.
_NEEDED = (ROOT, Path(sys.prefix), Path(sys.base_prefix))

_ROOT = os.geteuid() == 0
_UNSHARE = [
    "unshare",
    *(() if _ROOT else ("--user", "--map-root-user")),
    *("--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"),
]


@cache
def why_not() -> str:
    """Say why there can be no hosts here; nothing if there can."""
    for program in ("unshare", "nsenter", "ip", "bash"):
        if shutil.which(program) is None:
            return f"no {program} here"
    done = subprocess.run(
        [*_UNSHARE, "sh", "-c", "mount -t tmpfs none /run && ip link set lo up"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip() if done.returncode else ""


def serves(text: str) -> bool:
    """Return whether a command starts a server."""
    return bool(
        re.search(
            r"(?:^|[;&(]\s*)(?:\w+=\S+ )?"
            r"(?:pymcd(?: witness| -(?![hiV]\b|-version|-help))|docker run .*-p )",
            text,
        )
    )


def goes_on(text: str) -> bool:
    """Return whether a command keeps its terminal: it is given one of its own."""
    text = re.sub(r"#.*", "", text).strip()
    return serves(text) and not re.search(r"\s-d\b|--daemon|(?<![&>])&(?![&>\d])", text)


@dataclass(slots=True)
class Host:
    """One shell."""

    name: str
    folder: Path
    as_root: bool
    variables: Mapping[str, str]
    patience_s: float
    _shell: subprocess.Popen[str] | None = None
    _typed: int = 0
    _kept: list[Path] = field(default_factory=list)

    @property
    def pid(self) -> int:
        assert self._shell is not None
        return self._shell.pid

    def start(self) -> None:
        self.folder.mkdir()
        home = self.folder / "home"
        home.mkdir()
        inner = [] if self.as_root else ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
        # What nobody typed here is not there: the name of the user, terminal, variables.
        environment = {
            "HOME": str(home),
            "PATH": PATH,
            "LANG": "C.UTF-8",
            **self.variables,
        }
        mode = "755" if self.as_root else "555"
        # Who is not root can neither read nor own all of it.
        kept = "" if _ROOT else "--no-preserve=ownership"
        lines = [
            "set -e",
            "exec 19>&1 >/dev/null",
            f"hostname {self.name}",
            "mount --make-rprivate /",
            *(
                f"cp -a {kept} {path} {self.folder} || :; chmod {mode} {self.folder}{path}; "
                f"mount --bind {self.folder}{path} {path}"
                for path in _COPIED
            ),
            # Programs are too large to be copied.
            f"mkdir {self.folder}/programs {self.folder}/bin",
            f"mount --bind /usr/local/bin {self.folder}/programs",
            f"ln -s {self.folder}/programs/* {self.folder}/bin",
            f"chmod {mode} {self.folder}/bin; mount --bind {self.folder}/bin /usr/local/bin",
            *(
                f"mount -t tmpfs -o mode={mode} none {path}"
                for path in _EMPTY
                if Path(path).is_dir()
                and not any(needed.is_relative_to(path) for needed in _NEEDED)
            ),
            "ip link set lo up",
        ]
        hosts = "".join(f"{address} {name}\\n" for name, address in ADDRESSES.items())
        lines += [f"printf '127.0.0.1 localhost\\n{hosts}' > /etc/hosts", f"cd {home}"]
        lines += [f"exec {shlex.join([*inner, 'bash', '--noprofile', '--norc'])}"]
        with (self.folder / "shell").open("w") as errors:
            self._shell = subprocess.Popen(
                [*_UNSHARE, "bash", "--noprofile", "--norc", "-c", "\n".join(lines)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                start_new_session=True,
            )
        self.type("true")

    def stop(self) -> None:
        if self._shell is not None:
            self._shell.kill()
            self._shell.communicate()

    def write(self, path: str, text: str) -> None:
        """Have a file with this text, as somebody with an editor would."""
        file = self.folder / "edited"
        file.write_text(text, "utf-8")
        mode = "755" if text.startswith("#!") else "644"
        folder = os.path.dirname(path) or "."
        self.type(f"mkdir -p {folder} && install -m {mode} {file} {path}")

    def type(self, text: str) -> str:
        """Type a command, wait for its end, and return what it printed; it must succeed."""
        self._typed += 1
        script = self.folder / f"typed-{self._typed}"
        printed = self.folder / f"printed-{self._typed}"
        keeps = goes_on(text)
        script.write_text(text + "\n", "utf-8")
        listening = self._listening()
        if keeps:
            line = f"bash {script} >{printed} 2>&1 </dev/null & terminals+=($!); echo 0 >&19"
            self._kept.append(printed)
        else:
            line = f". {script} >{printed} 2>&1 </dev/null; echo $? >&19"
        answer = self._do(line)
        said = printed.read_text("utf-8", "replace") if printed.exists() else ""
        if answer != "0\n":
            said += (self.folder / "shell").read_text("utf-8", "replace")
            raise AssertionError(f"{self.name}$ {text}\n{said}\nexit code {answer or 'none'}")
        if serves(text):
            self._wait_listening(listening, text, printed, keeps=keeps)
        return said

    def forget(self) -> None:
        self._kept.clear()
        self._do("terminals=(); echo 0 >&19")

    def check(self) -> None:
        """Raise AssertionError if what kept its terminal has ended."""
        for number, printed in enumerate(self._kept):
            assert self._runs(number), f"{self.name}: has ended:\n{printed.read_text()}"

    def _runs(self, number: int) -> bool:
        return self._do(f"kill -0 ${{terminals[{number}]}} 2>/dev/null; echo $? >&19") == "0\n"

    def _do(self, line: str) -> str:
        """Give the shell a line; return the line that it answers."""
        shell = self._shell
        assert shell is not None
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(line + "\n")
        shell.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(shell.stdout, selectors.EVENT_READ)
            return shell.stdout.readline() if selector.select(self.patience_s) else "no end"

    def _listening(self) -> int:
        """Return how many sockets are listened at on this host."""
        count = 0
        for name in ("tcp", "tcp6"):
            rows = Path(f"/proc/{self.pid}/net/{name}").read_text().splitlines()[1:]
            count += sum(row.split()[3] == "0A" for row in rows)
        rows = Path(f"/proc/{self.pid}/net/unix").read_text().splitlines()[1:]
        return count + sum(row.split()[3] == "00010000" for row in rows)

    def _wait_listening(self, before: int, text: str, printed: Path, *, keeps: bool) -> None:
        """Take the time that a person takes to type the next line."""
        until = time.monotonic() + self.patience_s
        while self._listening() <= before:
            ended = keeps and not self._runs(len(self._kept) - 1)
            if ended or time.monotonic() > until:
                raise AssertionError(f"{self.name}$ {text}\n{printed.read_text()}\ndoes not listen")
            time.sleep(0.01)


@dataclass(slots=True)
class Stage:
    """Hosts, by name; each is there as soon as something is typed at it. A context manager."""

    folder: Path
    as_root: bool
    #: What is in the environment of every shell, besides what a shell has.
    variables: Mapping[str, str] = field(default_factory=dict)
    patience_s: float = PATIENCE_S
    _hosts: dict[str, Host] = field(default_factory=dict)
    _switch: subprocess.Popen[bytes] | None = None

    def host(self, name: str) -> Host:
        if name not in self._hosts:
            host = Host(name, self.folder / name, self.as_root, self.variables, self.patience_s)
            self._hosts[name] = host
            host.start()
            if _ROOT:
                self._connect(host)
        return self._hosts[name]

    def _connect(self, host: Host) -> None:
        if self._switch is None:
            self._switch = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
            network = f"/proc/{self._switch.pid}/ns/net"
            while os.readlink(network) == os.readlink("/proc/self/ns/net"):
                time.sleep(0.001)
            self._ip(self._switch.pid, "link add switch type bridge")
            self._ip(self._switch.pid, "link set switch up")
        cable = f"to-{host.name}"
        self._ip(self._switch.pid, f"link add {cable} type veth peer name eth0 netns {host.pid}")
        self._ip(self._switch.pid, f"link set {cable} master switch up")
        self._ip(host.pid, f"addr add {ADDRESSES[host.name]}/24 dev eth0")
        self._ip(host.pid, "link set eth0 up")

    @staticmethod
    def _ip(pid: int, words: str) -> None:
        subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", *words.split()], check=True)

    def play(self, block: Block) -> list[str]:
        """Do what a reader of this block does; return what each command printed."""
        if block.file:
            for name in block.hosts:
                self.host(name).write(block.file, block.text)
        return [self.type(command) for command in block.commands()] if block.is_typed else []

    def type(self, command: Command) -> str:
        said = ""
        for name in command.hosts:
            said += self.host(name).type(command.text)
        return said

    def forget(self) -> None:
        """Leave it to who goes on what becomes of the servers that were started so far."""
        for host in self._hosts.values():
            host.forget()

    def check(self) -> None:
        """Raise AssertionError if a server that was started in a terminal has ended."""
        for host in self._hosts.values():
            host.check()

    def __enter__(self) -> Self:
        try:
            self.host(HERE)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for host in self._hosts.values():
            host.stop()
        if self._switch is not None:
            self._switch.kill()
            self._switch.wait()
