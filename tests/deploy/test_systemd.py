"""Units, users and folders: they agree with each other, with pymcd, and with systemd."""

from __future__ import annotations

import re
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from pymcd.exits import EXIT_NO_USER, EXIT_USAGE
from pymcd.server.daemon import SPARE_DESCRIPTORS

from .deployed import CLIENTS, DEPLOY, HTTP, run, settings_of, stops_within_s, tool

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = DEPLOY / "systemd"
SERVICES = ["pymcd.service", "pymcd@.service", "pymcd-witness.service"]
#: As `systemd-analyze security` counts, of 100: the less, the less a service may do.
EXPOSURE_MAX = 15

Unit = list[tuple[str, str, str]]


def unit(name: str) -> Unit:
    """Return section, key and value of each line of a unit."""
    section, lines = "", []
    for line in (FOLDER / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            lines.append((section, key, value))
    return lines


def value(name: str, key: str) -> str:
    (found,) = (value for _, each, value in unit(name) if each == key)
    return found


def confinement(name: str) -> Unit:
    """Return what keeps a service from what it need not do."""
    lines = unit(name)
    keys = [key for _, key, _ in lines]
    return lines[keys.index("CapabilityBoundingSet") : keys.index("SystemCallErrorNumber") + 1]


def configuration(folder: Path, *, whole: bool = False) -> Path:
    """Copy pymcd.conf; `whole`: with what stands there as a remark."""
    text = (FOLDER / "pymcd.conf").read_text()
    if whole:
        text = re.sub(r"^#(?=-)", "", text, flags=re.MULTILINE).replace("-l 127.0.0.1\n", "")
    path = folder / "pymcd.conf"
    path.write_text(text)
    return path


# -- with pymcd ----------------------------------------------------------------------------------


def test_the_configuration_is_one(tmp_path: Path) -> None:
    settings = settings_of([], file=configuration(tmp_path))
    assert settings.port == CLIENTS
    assert str(HTTP) in str(settings.http)
    assert not settings.replicated
    assert settings_of([], file=configuration(tmp_path, whole=True)).replicated


def test_commands_are_ours() -> None:
    for name, file in (("pymcd.service", "pymcd"), ("pymcd@.service", "%i")):
        assert value(name, "ExecStart").split()[1:] == [f"--config=/etc/pymcd/{file}.conf"]
        assert value(name, "EnvironmentFile") == f"-/etc/pymcd/{file}.env"


def test_limits_are_wide_enough(tmp_path: Path) -> None:
    settings = settings_of([], file=configuration(tmp_path))
    for name in SERVICES[:2]:
        assert int(value(name, "LimitNOFILE")) >= settings.conn_limit + SPARE_DESCRIPTORS
        assert int(value(name, "TimeoutStopSec")) > stops_within_s(settings)


@pytest.mark.parametrize("name", SERVICES)
def test_who_is_started_wrongly_is_not_started_again(name: str) -> None:
    codes = set(map(int, value(name, "RestartPreventExitStatus").split()))
    assert codes == {EXIT_USAGE, EXIT_NO_USER}


# -- with each other -----------------------------------------------------------------------------


def test_one_of_several_is_like_the_only_one() -> None:
    several = [
        (section, key, text.replace("/%i.", "/pymcd.").replace(" (%i)", ""))
        for section, key, text in unit("pymcd@.service")
    ]
    assert several == unit("pymcd.service")


def test_all_may_do_as_little() -> None:
    assert confinement("pymcd-witness.service") == confinement("pymcd.service")


def test_the_user_is_made() -> None:
    (line,) = re.findall(r"^u (\S+)", (FOLDER / "pymcd.sysusers").read_text(), re.MULTILINE)
    assert {value(name, "User") for name in SERVICES} == {line}


# -- with systemd --------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Give a folder with the units, which start a program that is there."""
    program = tmp_path / "pymcd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in FOLDER.iterdir():
        text = path.read_text().replace("/usr/local/bin/pymcd", str(program))
        (tmp_path / path.name).write_text(text)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SERVICES[::2], "pymcd@a.service", "pymcd.socket"])
def test_systemd_understands_it(name: str, installed: Path) -> None:
    analyze = tool("systemd-analyze")
    if "@a" in name:
        shutil.copy(installed / name.replace("@a", "@"), installed / name)
    done = run(analyze, "verify", "--man=no", str(installed / name))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVICES)
def test_little_is_exposed(name: str, installed: Path) -> None:
    words = ("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager")
    done = run(tool("systemd-analyze"), *words, str(installed / name))
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_user_and_folders_are_made(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    root = f"--root={tmp_path}"
    done = run(tool("systemd-sysusers"), root, str(FOLDER / "pymcd.sysusers"))
    assert done.returncode == 0, done.stdout
    assert ":/usr/sbin/nologin" in (etc / "passwd").read_text()
    done = run(tool("systemd-tmpfiles"), "--create", root, str(FOLDER / "pymcd.tmpfiles"))
    assert done.returncode == 0, done.stdout
    modes = {
        name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("etc/pymcd", "run/pymcd")
    }
    assert modes == {"etc/pymcd": 0o750, "run/pymcd": 0o755}
