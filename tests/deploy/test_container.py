"""The image and what is composed of it: who runs, where, and with which options."""

from __future__ import annotations

import os
import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.arguments import split_arguments
from pymcd.tools.witness import _own_words, _settings
from tests.papers.blocks import DOCS, block, blocks

from .deployed import (
    CLIENTS,
    DEPLOY,
    HTTP,
    PEERS,
    ROOT,
    UID,
    documents,
    run,
    settings_of,
    stops_within_s,
    tool,
)

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = DEPLOY / "container"
DOCKERFILE = FOLDER / "Dockerfile"
COMPOSED = FOLDER / "haproxy.cfg"


def instructions(name: str) -> list[str]:
    """Return what follows an instruction of the Dockerfile, each time that it is there."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


# -- the image -----------------------------------------------------------------------------------


def test_nobody_is_root_there() -> None:
    assert instructions("USER") == [f"{UID}:{UID}"]
    (made,) = (each for each in instructions("RUN") if "useradd" in each)
    assert f"--uid {UID}" in made
    assert f"--gid {UID}" in made


def test_its_ports_are_told() -> None:
    assert instructions("EXPOSE") == [f"{CLIENTS} {PEERS} {HTTP}"]


def test_what_is_copied_is_there() -> None:
    for words in instructions("COPY"):
        source = next(word for word in words.split() if not word.startswith("--"))
        assert (ROOT / source).exists()


def test_what_is_sent_to_docker_is_what_the_image_is_made_of() -> None:
    everything, *lines = (ROOT / ".dockerignore").read_text().splitlines()[1:]
    assert everything == "*"
    sent = [line[1:] for line in lines if line.startswith("!")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [
        "pyproject.toml",
        project["project"]["readme"],
        *project["project"]["license-files"],
        *wheel["packages"],
        *wheel["shared-data"],
        *(each.split()[-2] for each in instructions("COPY") if not each.startswith(". ")),
    ]
    for path in needed:
        assert any(f"{path}/".startswith(f"{each}/") for each in sent), path
    for each in sent:
        assert any(f"{path}/".startswith(f"{each}/") for path in needed), each


#: Words behind `docker run pymcd`, and what is then run.
RUNS = [
    ([], ["pymcd"]),
    (["-m", "512"], ["pymcd", "-m", "512"]),
    (["--peer=a b"], ["pymcd", "--peer=a b"]),
    (["pymcd", "replication", "a"], ["pymcd", "replication", "a"]),
    (["pymcd", "-V"], ["pymcd", "-V"]),
    (["other", "-x"], ["other", "-x"]),
]


@pytest.mark.parametrize(("words", "runs"), RUNS, ids=[" ".join(row[0]) or "-" for row in RUNS])
def test_words_that_begin_with_a_dash_are_for_the_server(
    words: list[str], runs: list[str], tmp_path: Path
) -> None:
    for name in ("pymcd", "other"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nfor word in {name} "$@"; do echo "$word"; done\n')
        program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run(str(FOLDER / "entrypoint.sh"), *words, env={"PATH": path})
    assert done.stdout.splitlines() == runs


@pytest.mark.slow
def test_hadolint_has_nothing_to_say() -> None:
    done = run(tool("hadolint"), "--failure-threshold=style", str(DOCKERFILE))
    assert (done.returncode, done.stdout) == (0, "")


# -- composed ------------------------------------------------------------------------------------


@pytest.fixture
def services() -> dict[str, Any]:
    (composed,) = documents(FOLDER / "compose.yaml")
    found: dict[str, Any] = composed["services"]
    return found


def test_nodes_and_witness_know_each_other(services: dict[str, Any]) -> None:
    witness = f"witness:{PEERS}"
    for name, other in (("cache-1", "cache-2"), ("cache-2", "cache-1")):
        service = services[name]
        settings = settings_of(service["command"])
        assert service["hostname"] == settings.node_id == name
        assert settings.peers == (f"{other}:{PEERS}",)
        assert settings.witness == witness
        assert settings.replication_secret_file == "/run/secrets/pymcd"
        assert str(HTTP) in str(settings.http)
        grace_s = int(service["stop_grace_period"].removesuffix("s"))
        assert grace_s > stops_within_s(settings)
    first, tool_name, *words = services["witness"]["command"]
    assert (first, tool_name) == ("pymcd", "witness")
    plain, state = _own_words(words)
    assert state is not None
    (volume,) = services["witness"]["volumes"]
    assert state.startswith(volume.split(":")[1] + "/")
    settings = _settings(split_arguments(plain))
    assert settings.replication_secret_file == "/run/secrets/pymcd"


@pytest.mark.slow
def test_it_is_a_compose_file() -> None:
    checker = tool("check-jsonschema")
    done = run(checker, "--builtin-schema", "vendor.compose-spec", str(FOLDER / "compose.yaml"))
    assert done.returncode == 0, done.stdout


def lines(text: str) -> list[str]:
    """Return what a configuration says, in no order."""
    bare = (line.strip() for line in text.splitlines())
    return sorted(line for line in bare if line and not line.startswith("#"))


def test_haproxy_is_told_what_its_page_tells() -> None:
    """But for what differs in containers: addresses, and a resolver of names."""
    page = DOCS / "front.md"
    told = block(page, "HAProxy", "/etc/haproxy/haproxy.cfg")
    for address, name in (("10.0.0.4:", ":"), ("10.0.0.5:", "cache-1:"), ("10.0.0.6:", "cache-2:")):
        told = told.replace(address, name)
    (asks,) = (each.text for each in blocks(page) if "httpchk" in each.text)
    expected = [line for line in lines(told) if "tcp-check" not in line] + lines(asks)
    ours = re.sub(r"^resolvers docker\n( +.*\n)+", "", COMPOSED.read_text(), flags=re.MULTILINE)
    assert [line for line in lines(ours) if "resolvers" not in line] == sorted(expected)


@pytest.mark.slow
def test_haproxy_understands_its_part(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    # Their names are known where they are composed.
    text = re.sub(r"cache-\d:", "127.0.0.1:", COMPOSED.read_text())
    path.write_text(text)
    done = run(tool("haproxy"), "-c", "-f", str(path))
    assert done.returncode == 0, done.stdout
    assert "WARN" not in done.stdout.upper(), done.stdout
