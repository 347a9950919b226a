"""The tool `pymcd completion SHELL`: a script by which bash, zsh or fish completes our words.

Made from the table of options and the help of the tools. A script holds all that it offers: a shell
that had to ask `pymcd` at each TAB would keep its user waiting. What an option takes is told by its
metavar: files, hosts, users, or one of the words that its setting may be.
"""

from __future__ import annotations

import re
import shlex
from itertools import chain
from typing import TYPE_CHECKING, Final, get_args

from ..config import LogFormat, Protocol, ReplicationAck
from ..exits import EXIT_USAGE
from ..options import EXTENDED, EXTENDED_HELP, OPTIONS, Option
from ..spelling import did_you_mean
from . import TOOLS
from .manual import help_of
from .telling import complain, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

USAGE: Final = "usage: pymcd completion bash|zsh|fish"
HELP: Final = f"""\
{USAGE}

Prints the script by which a shell completes the words of pymcd. Where the
package was installed beside the shell's own files, it has found them already;
otherwise, for one's own account:

  pymcd completion bash > ~/.local/share/bash-completion/completions/pymcd
  pymcd completion zsh > ~/.zfunc/_pymcd    # in ~/.zshrc: fpath+=~/.zfunc
  pymcd completion fish > ~/.config/fish/completions/pymcd.fish"""

#: Option -> what its word may be.
CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "protocol": get_args(Protocol),
    "log-format": get_args(LogFormat),
    "replication-ack": get_args(ReplicationAck),
}
_FILES: Final = frozenset({"FILE"})
_USERS: Final = frozenset({"USER"})
_HOSTS: Final = re.compile(r"HOST|ADDRESS")


def completion(words: list[str]) -> int:
    """Print the script for a shell; return the exit code."""
    if len(words) != 1:
        complain(f"pymcd completion: name one shell\n{USAGE}")
    elif words[0] not in SHELLS:
        meant = did_you_mean(words[0], SHELLS) or f"\n{USAGE}"
        complain(f"pymcd completion: no script for {words[0]}{meant}")
    else:
        tell(SHELLS[words[0]]().rstrip("\n"))
        return 0
    return EXIT_USAGE


# -- what there is to complete -----------------------------------------------------------------


def options_of(tool: str) -> list[str]:
    """Return the options of a tool, which its help names."""
    rows = re.findall(r"^  (-.*?)(?:  |$)", help_of(tool), re.MULTILINE)
    return sorted({"--help", *re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", " ".join(rows))})


def extended_names() -> list[str]:
    """Return the names of -o, with = where a word has to follow."""
    takes = {
        re.sub(r"^\[no_\]|[\[=].*", "", row) for row in EXTENDED_HELP if re.search(r"\w=", row)
    }
    return [f"{name}=" if name in takes else name for name in EXTENDED]


def summary(option: Option) -> str:
    """Return the beginning of an option's help, for a list of many."""
    return re.split(r"[;:(]|, (?:several|none)", option.help)[0].strip()


def _words_of(option: Option) -> list[str]:
    return [f"--{option.name}", *([f"-{option.letter}"] if option.letter else [])]


# -- bash --------------------------------------------------------------------------------------

_BASH: Final = r"""
# Completion of pymcd for bash; made by `pymcd completion bash`.

_pymcd() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local tool="" words="" head=""
    COMPREPLY=()
    # bash takes `--name=word` for three words.
    if [[ $word == = ]]; then
        word=""
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    ((COMP_CWORD > 1)) && tool=${COMP_WORDS[1]}
    case $tool in
@of_tools@
    esac
    if [[ $words ]]; then
        [[ $tool == help ]] && words+=" @tools@"
        [[ $tool == completion ]] && words+=" @shells@"
        COMPREPLY=($(compgen -W "$words" -- "$word"))
        if [[ ! $COMPREPLY && $word != -* && $tool != @wordy@ ]]; then
            compopt -o filenames 2>/dev/null
            COMPREPLY=($(compgen -f -A hostname -- "$word"))
        fi
        return
    fi
    case $before in
@choices@
        @files@)
            compopt -o filenames 2>/dev/null
            COMPREPLY=($(compgen -f -- "$word"))
            return
            ;;
        @users@)
            COMPREPLY=($(compgen -u -- "$word"))
            return
            ;;
        @hosts@)
            COMPREPLY=($(compgen -A hostname -- "$word"))
            return
            ;;
        @extended@)
            # Several, with commas.
            [[ $word == *,* ]] && head=${word%,*},
            words="@names@"
            compopt -o nospace 2>/dev/null
            ;;
        @others@)
            return
            ;;
        *)
            words="@options@"
            [[ $tool ]] || words="serve @tools@ $words"
            ;;
    esac
    COMPREPLY=($(compgen -P "$head" -W "$words" -- "${word#"$head"}"))
    [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == *= ]] && compopt -o nospace 2>/dev/null
}

complete -F _pymcd pymcd
"""


def bash() -> str:
    """Return the script for bash 4 or later."""
    options = [option for option in OPTIONS if not option.is_flag]
    known = {
        "files": [option for option in options if option.metavar in _FILES],
        "users": [option for option in options if option.metavar in _USERS],
        "hosts": [option for option in options if _HOSTS.match(option.metavar)],
        "extended": [option for option in options if option.name == "extended"],
    }
    chosen = [option for option in options if option.name in CHOICES]
    used = [*chain.from_iterable(known.values()), *chosen]
    known["others"] = [option for option in options if option not in used]
    return _filled(
        _BASH,
        of_tools=[f'        {name}) words="{" ".join(options_of(name))}" ;;' for name in TOOLS],
        choices=[
            f'        {_patterns([each])}) words="{" ".join(CHOICES[each.name])}" ;;'
            for each in chosen
        ],
        tools=" ".join(TOOLS),
        shells=" ".join(SHELLS),
        wordy="@(help|completion)",
        names=" ".join(extended_names()),
        options=" ".join(
            [f"--{option.name}{'' if option.is_flag else '='}" for option in OPTIONS]
            + [f"-{option.letter}" for option in OPTIONS if option.letter]
        ),
        **{name: _patterns(options) for name, options in known.items()},
    )


def _patterns(options: Iterable[Option]) -> str:
    return "|".join(word for option in options for word in _words_of(option))


def _filled(template: str, **parts: str | list[str]) -> str:
    """Return a script with what belongs into its places, @name@; lists are lines."""
    for name, part in parts.items():
        template = template.replace(f"@{name}@", part if isinstance(part, str) else "\n".join(part))
    return template.lstrip("\n")


# -- zsh ---------------------------------------------------------------------------------------


_ZSH: Final = r"""
#compdef pymcd
# Completion of pymcd for zsh; made by `pymcd completion zsh`.

_pymcd() {
    local -a tools names
    tools=(
        'serve:a command line of the server'
@tools@
    )
    names=(@names@)
    if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then
        _describe tool tools
        return
    fi
    case $words[2] in
@of_tools@
    *) _arguments -s -S \
@options@
        ;;
    esac
}

_pymcd "$@"
"""
_ZSH_ANYTHING: Final = "*:host or file: _alternative 'hosts:host:_hosts' 'files:file:_files'"


def zsh() -> str:
    """Return the script for zsh."""
    rest = {
        "help": f"*:tool:({' '.join(TOOLS)})",
        "completion": f"*:shell:({' '.join(SHELLS)})",
    }
    of_tools = [
        [*(f"*{word}" for word in options_of(name)), rest.get(name, _ZSH_ANYTHING)]
        for name in TOOLS
    ]
    return _filled(
        _ZSH,
        tools=[f"        {_zsh_word(f'{name}:{what}')}" for name, what in TOOLS.items()],
        names=" ".join(extended_names()),
        of_tools=[
            f"    {name}) shift words; ((CURRENT--))\n"
            f"        _arguments {' '.join(map(_zsh_word, specs))} ;;"
            for name, specs in zip(TOOLS, of_tools, strict=True)
        ],
        options=[
            f"        {_zsh_word(spec)} \\" for option in OPTIONS for spec in _zsh_specs(option)
        ],
    )


def _zsh_word(words: str) -> str:
    return "'" + words.replace("'", "'\\''") + "'"


def _zsh_specs(option: Option) -> list[str]:
    """Return what _arguments wants to know of an option, by its long name and by its letter."""
    what = re.sub(r"([\[\]:\\])", r"\\\1", summary(option))
    metavar = option.metavar.replace(":", "\\:")
    takes = "" if option.is_flag else f":{metavar}:{_zsh_action(option)}"
    words = [f"--{option.name}" if option.is_flag else f"--{option.name}="]
    if option.letter:
        words.append(f"-{option.letter}" if option.is_flag else f"-{option.letter}+")
    before = f"({' '.join(_words_of(option))})"
    if option.adds_up or option.name == "verbose":
        before = "*"
    return [f"{before}{word}[{what}]{takes}" for word in words]


def _zsh_action(option: Option) -> str:
    if option.name in CHOICES:
        return f"({' '.join(CHOICES[option.name])})"
    if option.name == "extended":
        return "_sequence compadd - $names"
    if option.metavar in _FILES:
        return "_files"
    if option.metavar in _USERS:
        return "_users"
    return "_hosts" if _HOSTS.match(option.metavar) else " "


# -- fish --------------------------------------------------------------------------------------


def fish() -> str:
    """Return the script for fish."""
    is_first = "-n '__fish_is_nth_token 1'"
    is_server = f"-n 'not __fish_seen_subcommand_from {' '.join(TOOLS)}'"
    lines = ["# Completion of pymcd for fish; made by `pymcd completion fish`.", ""]
    for name, what in {"serve": "a command line of the server", **TOOLS}.items():
        lines.append(f"complete -c pymcd {is_first} -f -a {name} -d {shlex.quote(what)}")
    for option in OPTIONS:
        letter = f" -s {option.letter}" if option.letter else ""
        lines.append(
            f"complete -c pymcd {is_server}{letter} -l {option.name}{_fish_takes(option)}"
            f" -d {shlex.quote(summary(option))}"
        )
    for name in TOOLS:
        is_tool = f"-n '__fish_seen_subcommand_from {name}'"
        for word in options_of(name):
            kind = "-l" if word.startswith("--") else "-s"
            lines.append(f"complete -c pymcd {is_tool} {kind} {word.lstrip('-')}")
    for name, known in (("help", TOOLS), ("completion", SHELLS)):
        lines.append(
            f"complete -c pymcd -n '__fish_seen_subcommand_from {name}' -f -a '{' '.join(known)}'"
        )
    return "\n".join(lines) + "\n"


def _fish_takes(option: Option) -> str:
    if option.is_flag:
        return " -f"
    if option.name in CHOICES:
        return f" -x -a '{' '.join(CHOICES[option.name])}'"
    if option.name == "extended":
        return f" -x -a '{' '.join(extended_names())}'"
    if option.metavar in _FILES:
        return " -r -F"
    if option.metavar in _USERS:
        return " -x -a '(__fish_complete_users)'"
    return " -x -a '(__fish_print_hostnames)'" if _HOSTS.match(option.metavar) else " -x"


SHELLS: Final[dict[str, Callable[[], str]]] = {"bash": bash, "zsh": zsh, "fish": fish}
