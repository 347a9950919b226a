"""A real systemd that runs beside the one of this machine, and knows our units alone.

It is process 1 of namespaces of its own, on a root folder which shows this machine's files and
takes what is written to memory. The network is this machine's, so clients of its services are
ordinary processes; ports are therefore free ones. All that its services are confined by (system
calls, capabilities, what they see of the file system) is systemd's real work.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from conformance.servers import ROOT
from conformance.trial import TrialError, until

if TYPE_CHECKING:
    from collections.abc import Mapping

UNITS = ROOT / "docs" / "deploy" / "systemd"
SYSTEMD = Path("/lib/systemd/systemd")
PYTHON = Path("/usr/bin/python3")
#: What is needed of this environment; the services do not see it, as they see no home folder.
PACKAGES = (
    "trio",
    "attr",
    "attrs",
    "sortedcontainers",
    "click",
    "outcome",
    "sniffio",
    "idna",
    "h11",
)
NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup")
SOURCES = "/opt/sources"
#: What the manager may be asked, and takes at most.
PATIENCE_S = 60

#: $1: a folder with `files`, which are laid over the root; $2: the name of the control group.
BOOT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1/root"
files=$1/files
R=$1/root/all
mkdir "$1/root/up" "$1/root/work" "$R"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/root/up,workdir=$1/root/work" "$R"
mount -t proc proc "$R/proc"
mount -t sysfs sysfs "$R/sys"
mount -t cgroup2 none "$R/sys/fs/cgroup"
for folder in run tmp dev; do mount -t tmpfs tmpfs "$R/$folder"; done
for device in null zero full random urandom tty; do
    touch "$R/dev/$device"; mount --bind "/dev/$device" "$R/dev/$device"
done
mkdir "$R/dev/shm"
mount -t tmpfs tmpfs "$R/dev/shm"
ln -s /proc/self/fd "$R/dev/fd"
ln -s pts/ptmx "$R/dev/ptmx"
rm -rf "$R/etc/systemd/system" "$R/etc/fstab"
mkdir -p "$R/etc/systemd/system"
for unit in "$R"/lib/systemd/system/{sysinit,sockets,timers,basic}.target.wants/*; do
    ln -sf /dev/null "$R/etc/systemd/system/${unit##*/}"
done
printf '[Unit]\nDescription=Nothing\n' > "$R/etc/systemd/system/nothing.target"
cp -r "$files/." "$R/"
[ ! -e "$R/etc/sysusers.d/pymcd.conf" ] || systemd-sysusers --root="$R" pymcd.conf
cd "$R"
pivot_root . .
umount -l .
exec env -i container=conformance PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . \
    /lib/systemd/systemd --system --unit=nothing.target --log-target=kmsg --show-status=no
"""


@cache
def why_not() -> str:
    """Say why there can be no systemd here; nothing if there can."""
    if os.geteuid() != 0:
        return "namespaces and mounts need root"
    for program in (str(SYSTEMD), "unshare", "nsenter", "systemd-sysusers"):
        if shutil.which(program) is None:
            return f"no {program} installed (Debian: apt-get install systemd)"
    if _cgroups() is None:
        return "no control groups of version 2 that can be written to"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "mount", "--make-rprivate", "/"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        return f"no namespaces: {tried.stderr.strip()}"
    version = subprocess.run(
        [PYTHON, "-c", "import sys; print(sys.version_info >= (3, 11))"],
        capture_output=True,
        text=True,
        check=False,
    )
    if version.stdout.strip() != "True":
        return f"{PYTHON} is not there, or older than 3.11"
    return ""


def _cgroups() -> Path | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind != "cgroup2":
            continue
        probe = Path(place) / f"conformance-{os.getpid()}"
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError:
            continue
        return Path(place)
    return None


@dataclass(slots=True)
class Systemd:
    """A running manager. A context manager itself.

    Args:
        files: contents by path of what is there besides the units.
        dropins: lines by unit that are added to it.
        installed: whether our units are there. If not, the sources are, in SOURCES, and the
            network is its own as well, for ports that cannot be chosen.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    dropins: Mapping[str, str] = field(default_factory=dict)
    installed: bool = True
    _folder: Path = Path()
    _group: Path = Path()
    _outer: subprocess.Popen[bytes] | None = None
    _pid: int = 0

    def start(self) -> Self:
        if reason := why_not():
            raise TrialError(reason)
        self._folder = Path(tempfile.mkdtemp(prefix="conformance-"))
        try:
            self._lay_files()
            self._boot()
        except BaseException:
            self.stop()
            raise
        return self

    def _lay_files(self) -> None:
        (self._folder / "root").mkdir()
        files = self._folder / "files"
        if self.installed:
            for unit in UNITS.iterdir():
                if unit.suffix in (".service", ".socket"):
                    self._lay(f"etc/systemd/system/{unit.name}", unit.read_text())
            self._lay("etc/sysusers.d/pymcd.conf", (UNITS / "pymcd.sysusers").read_text())
        else:
            shutil.copytree(ROOT / "docs", files / SOURCES.lstrip("/") / "docs")
        for name, lines in self.dropins.items():
            self._lay(f"etc/systemd/system/{name}.d/trial.conf", lines)
        for path, content in self.files.items():
            self._lay(path.lstrip("/"), content)
        library = files / "usr/local/lib/pymcd"
        shutil.copytree(ROOT / "pymcd", library / "pymcd")
        site = Path(next(path for path in sys.path if path.endswith("site-packages")))
        for name in PACKAGES:
            if (site / name).is_dir():
                shutil.copytree(site / name, library / name)
        script = (
            f'#!/bin/sh\nPYTHONPATH=/{library.relative_to(files)} exec {PYTHON} -m pymcd "$@"\n'
        )
        self._lay("usr/local/bin/pymcd", script, 0o755)

    def _lay(self, path: str, content: str, mode: int = 0o644) -> None:
        place = self._folder / "files" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
        place.chmod(mode)

    def _boot(self) -> None:
        cgroups = _cgroups()
        assert cgroups is not None
        self._group = cgroups / self._folder.name
        self._group.mkdir()
        namespaces = NAMESPACES if self.installed else (*NAMESPACES, "--net")
        enter = 'echo $$ > "$2/cgroup.procs" && exec unshare ' + " ".join(namespaces)
        words = ["bash", "-c", f'{enter} bash -c "$3" boot "$1" "$2"', "enter"]
        with (self._folder / "log").open("wb") as log:
            self._outer = subprocess.Popen(
                [*words, str(self._folder), str(self._group), BOOT],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until("systemd runs", self._is_up)

    def _is_up(self) -> bool:
        assert self._outer is not None
        if self._outer.poll() is not None:
            raise TrialError(f"systemd did not start: {(self._folder / 'log').read_text()}")
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text()
        self._pid = int(children.split()[0]) if children.strip() else 0
        if not self._pid or not Path(f"/proc/{self._pid}/cmdline").read_bytes().startswith(
            bytes(SYSTEMD)
        ):
            return False
        return self.ask("is-system-running").stdout.strip() in ("running", "degraded")

    # -- what is asked of it ---------------------------------------------------------------------

    def inside(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program where the services run."""
        return subprocess.run(
            ["nsenter", "--target", str(self._pid), "--all", "--root", "--wd", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.inside("systemctl", "--no-pager", *words)

    def do(self, *words: str) -> None:
        """Have it do something; return when that is done."""
        done = self.ask(*words)
        if done.returncode:
            status = self.ask("status", "--full", words[-1]).stdout
            raise TrialError(f"systemctl {' '.join(words)}: {done.stderr}\n{status}")

    def shows(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.ask("show", "--value", f"--property={name}", unit).stdout.strip()

    def pid(self, unit: str) -> int:
        """Return the main process of a service, as this machine counts."""
        ours = int(self.shows(unit, "MainPID"))
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                status = (folder / "status").read_text()
            except OSError:
                continue
            found = re.search(r"^NSpid:\t\d+\t(\d+)$", status, re.MULTILINE)
            if found and int(found[1]) == ours and self._is_inside(int(folder.name)):
                return int(folder.name)
        raise TrialError(f"{unit} has no process")

    def _is_inside(self, pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{self._pid}/ns/pid")
        except OSError:
            return False

    # -- the end ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """End it, and with it all that it runs. Does nothing the second time."""
        if self._outer is not None:
            if self._pid:
                os.kill(self._pid, signal.SIGKILL)  # process 1: all others go with it
            else:
                self._outer.kill()
            self._outer.wait()
            self._outer = None
            self._remove_groups()
        if self._folder != Path():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = Path()

    def _remove_groups(self) -> None:
        for _ in range(100):
            for group in sorted(self._group.rglob("*"), reverse=True):
                if group.is_dir():
                    _try_to_remove(group)
            if _try_to_remove(self._group):
                return
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _try_to_remove(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True
