"""Commands beside the server: `pymcd NAME`. Each is a module, imported when it is run.

The module has a function of its name, which is given the words after that and returns an exit code,
and `HELP`: what `--help` prints as the only word, which begins with how the tool is used. Its
options stand at the beginnings of lines there, which is where the manual and the completions of
shells find them.
"""

from __future__ import annotations

from typing import Final

#: What each is for, as `pymcd --help` tells it.
TOOLS: Final[dict[str, str]] = {
    "completion": "print the script by which bash, zsh or fish completes the words of pymcd",
    "dump": "write the items of a server, a memcached or a pymcd, to a file",
    "help": "this help; with the name of a tool, that of the tool",
    "load": "store the items of such a file in a server",
    "passwd": "write a user's password, hashed, into a file for -Y",
    "replication": "how a pair is doing: who coordinates, whether all are in sync, or why not",
    "size": "which -m, and how much memory, so many sessions need",
    "witness": "be the third vote of a pair",
}
