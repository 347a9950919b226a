"""What docs/deploy.md tells to type for containers, where podman is what `docker` runs.

The images that ours begin with are made here (see `images`), with all in them that pip would fetch:
the hosts on which commands are typed have no internet.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from conformance.servers import ROOT
from tests.papers.blocks import DOCS, HERE, Command, blocks
from tests.papers.stage import Stage, why_not

from . import images

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 600.0
SECTION = "Containers"
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "netavark"
"""
DOCKER = """\
#!/bin/sh
[ "$1" = compose ] || exec podman "$@"
shift
exec podman-compose "$@"
"""
PIP_CONF = "[global]\nno-index = true\nfind-links = /packages\n"


def lacking() -> str:
    """Return what is not here of what it takes."""
    for program in ("podman", "podman-compose", "runc", "aardvark-dns", "iptables"):
        path = f"{os.environ['PATH']}:{sys.prefix}/bin:/usr/sbin:/usr/lib/podman"
        if shutil.which(program, path=path) is None:
            return f"no {program} here"
    if os.geteuid() != 0:
        return "not root"
    if not images.root().exists():
        return "`python -m conformance.deploy.images` makes the images"
    return why_not()


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * PATIENCE_S),
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]


def make_images(folder: Path, stage: Stage) -> None:
    """Have the images that ours begin with."""
    (folder / "packages").mkdir()
    wanted = ["hatchling", "editables", f"{ROOT}[all]"]
    fetch = [sys.executable, "-m", "pip", "wheel", "-q", "-w", str(folder / "packages"), *wanted]
    done = subprocess.run(fetch, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the internet: {done.stderr.splitlines()[-1:]}")
    (folder / "pip.conf").write_text(PIP_CONF)
    for image, runs in images.IMAGES.items():
        (folder / "Dockerfile").write_text(
            "FROM scratch\n"
            "ADD root.tar /\n"
            "COPY pip.conf /etc/pip.conf\n"
            "COPY packages /packages\n"
            f"CMD {runs}\n"
        )
        if not (folder / "root.tar").exists():
            os.link(images.root(), folder / "root.tar")
        stage.type(Command((HERE,), f"docker build -q -t {image} {folder}"))


def test_what_the_page_says_brings_a_pair_up(tmp_path: Path) -> None:
    alone, pair = (each for each in blocks(DOCS / "deploy.md") if each.section == SECTION)
    (tmp_path / "containers.conf").write_text(CONTAINERS_CONF)
    variables = {"CONTAINERS_CONF": str(tmp_path / "containers.conf")}
    with Stage(tmp_path, as_root=True, variables=variables, patience_s=PATIENCE_S) as stage:
        stage.host(HERE).write("/usr/local/bin/docker", DOCKER)
        # Containers are given what stands there; the stage has other addresses for these names.
        stage.host(HERE).write("/etc/hosts", "127.0.0.1 localhost\n")
        source = tmp_path / HERE / "home" / "pymcd"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT, source, ignore=ignored)
        shutil.copy(ROOT / ".dockerignore", source)

        def ask(*words: str, answer: str) -> None:
            requests = "".join(f"{word}\\r\\n" for word in words)
            (tmp_path / "ask").write_text(
                f"exec 3<>/dev/tcp/127.0.0.1/11211\nprintf '{requests}quit\\r\\n' >&3\ncat <&3\n"
            )
            # podman itself holds a port open from the start, and HAProxy takes a second to look.
            asks = f"timeout 2 bash {tmp_path}/ask 2>&1 | grep -a '{answer}'"
            tell = "docker ps -a; for each in $(docker ps -qa); do docker logs $each; done; false"
            until = f'timeout 120 bash -c "until {asks}; do sleep 1; done"'
            stage.type(Command((HERE,), f"{until} || {{ {tell}; }}"))

        (tmp_path / "begin").mkdir()
        make_images(tmp_path / "begin", stage)
        stage.type(Command((HERE,), f"cd {source}"))
        *_, printed = stage.play(alone)
        assert "Usage: pymcd [OPTION]" in printed
        ask("version", answer="VERSION 1.6")
        stage.forget()
        stage.type(Command((HERE,), "docker stop --latest"))
        stage.play(pair)
        ask("set session 0 1800 3", "ada", answer="STORED")
        # podman-compose waits for nothing; until the witness has a vote, no node may go.
        wait = "docker exec $(docker ps -q --filter name=cache-2) pymcd replication --wait"
        stage.type(Command((HERE,), f"{wait} cache-1 cache-2"))
        stage.type(Command((HERE,), "docker kill $(docker ps -q --filter name=cache-1)"))
        ask("get session", answer="ada")
        stage.type(Command((HERE,), "docker compose down"))
