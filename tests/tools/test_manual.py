"""The manual and the completions: that the files are what the tables make, and what they do."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from pymcd import cli
from pymcd.options import EXTENDED, EXTENDED_HELP, OPTIONS, SECTIONS
from pymcd.tools import TOOLS
from pymcd.tools import replication as replication_tool
from pymcd.tools.asking import ACCESS_OPTIONS
from pymcd.tools.completion import CHOICES, SHELLS, bash, fish, options_of, zsh
from pymcd.tools.manual import man_page, markdown
from pymcd.tools.witness import SHARED

ROOT = Path(__file__).parents[2]

#: File -> what writes it, which is also what to do when a test here says that it is not current.
MADE = {
    "docs/options.md": "pymcd help --markdown",
    "docs/man/pymcd.1": "pymcd help --man",
    "docs/completion/pymcd.bash": "pymcd completion bash",
    "docs/completion/_pymcd": "pymcd completion zsh",
    "docs/completion/pymcd.fish": "pymcd completion fish",
}


@pytest.mark.parametrize("path", MADE)
def test_the_files_are_what_the_tables_make(path, capsys):
    command = MADE[path]
    assert cli.main(command.split()[1:]) == 0
    current = (ROOT / path).read_text("utf-8") == capsys.readouterr().out
    assert current, f"{command} > {path}"


def test_all_that_is_shared_is_made_and_installed():
    found = [*ROOT.glob("docs/man/*"), *ROOT.glob("docs/completion/*")]
    files = {str(path.relative_to(ROOT)) for path in found}
    assert files == MADE.keys() - {"docs/options.md"}
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    shared = build["targets"]["wheel"]["shared-data"]
    assert shared.keys() == files
    assert shared["docs/man/pymcd.1"] == "share/man/man1/pymcd.1"
    # A wheel may be built from it.
    assert "/docs" in build["targets"]["sdist"]["include"]


@pytest.mark.parametrize("made", [markdown, man_page])
def test_the_manual_names_everything(made):
    text = made().replace("\\-", "-").replace("\\", "")
    for option in OPTIONS:
        assert f"--{option.name}" in text
        assert option.help in text
    for name, what in EXTENDED_HELP.items():
        assert name in text
        assert what in text
    for title in (*SECTIONS, *(f"pymcd {name}" for name in TOOLS)):
        assert title in text


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_the_page_is_one_for_man():
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-rLL=78n"],
        input=man_page(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub(r"\x1b\[\d*m|.\x08", "", done.stdout)
    for words in ("-m, --memory-limit=MB", "NAMES FOR -o", "pymcd replication forget NODE"):
        assert words.casefold() in shown.casefold()


# -- completions -------------------------------------------------------------------------------


def test_options_of_tools_are_those_that_they_take():
    taken = {f"--{name.rstrip('=').rstrip('=?')}" for name in replication_tool.OPTIONS}
    assert set(options_of("replication")) == taken
    for name in ("dump", "load"):
        assert {f"--{option.rstrip('=')}" for option in ACCESS_OPTIONS} < set(options_of(name))
    own = {word.removeprefix("--") for word in options_of("witness") if word.startswith("--")}
    assert own - {"listen", "state"} <= SHARED
    assert options_of("passwd") == ["--help", "--iterations"]
    assert options_of("help") == ["--help", "--man", "--markdown"]


# Words before the cursor -> some that are offered, and whether these are all.
OFFERED = [
    ("pymcd rep", ["replication"], True),
    ("pymcd se", ["serve"], True),
    ("pymcd --replication-a", ["--replication-ack=", "--replication-ack-timeout="], True),
    ("pymcd --daem", ["--daemon"], True),
    ("pymcd -", ["-p", "--port=", "-v", "--config="], False),
    ("pymcd -d --log-format = ", ["text", "json"], True),
    ("pymcd -d --log-format = js", ["json"], True),
    ("pymcd -d --log-format js", ["json"], True),
    ("pymcd -B b", ["binary"], True),
    ("pymcd -o no_lru_m", ["no_lru_maintainer"], True),
    ("pymcd -o modern,hot_l", ["modern,hot_lru_pct="], True),
    ("pymcd -m ", [], True),
    ("pymcd -u roo", ["root"], True),
    ("pymcd --config pypr", ["pyproject.toml"], True),
    ("pymcd --auth-file = pypr", ["pyproject.toml"], True),
    ("pymcd replication --us", ["--user"], True),
    ("pymcd replication --cert pypr", ["pyproject.toml"], True),
    ("pymcd passwd pypr", ["pyproject.toml"], True),
    ("pymcd help pass", ["passwd"], True),
    ("pymcd completion ", list(SHELLS), False),
    ("pymcd completion x", [], True),
    ("pymcd -d repl", [], True),
    ("pymcd serve --daem", ["--daemon"], True),
]


@pytest.mark.parametrize(("line", "offered", "all_of_it"), OFFERED)
def test_what_bash_offers(line, offered, all_of_it):
    words = line.split(" ")
    script = (
        'eval "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pymcd 2>/dev/null;'
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", bash(), *words], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stderr == ""
    got = done.stdout.split()
    assert set(offered) <= set(got)
    assert not all_of_it or sorted(got) == sorted(offered)


def test_every_option_is_offered_by_each_shell():
    for option in OPTIONS:
        assert f"--{option.name}" in bash().replace("=", " ").split(" ") or option.letter
        assert f"--{option.name}" in zsh()
        assert f" -l {option.name} " in fish()
    for script in (bash(), zsh(), fish()):
        for name in (*EXTENDED, *TOOLS, *(word for words in CHOICES.values() for word in words)):
            assert name in script
        assert "@" not in script.replace("@(help|completion)", "").replace('"$@"', "").replace(
            "[@]", ""
        )


def test_a_shell_that_is_not_known(capsys):
    assert cli.main(["completion"]) == 64
    assert cli.main(["completion", "fsh"]) == 64
    assert cli.main(["completion", "tcsh"]) == 64
    assert capsys.readouterr().err == (
        "pymcd completion: name one shell\nusage: pymcd completion bash|zsh|fish\n"
        "pymcd completion: no script for fsh; did you mean fish?\n"
        "pymcd completion: no script for tcsh\nusage: pymcd completion bash|zsh|fish\n"
    )
