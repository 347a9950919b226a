"""Run the clients by hand: `python -m conformance.clients [--write] [NAME ...]`.

Prints the table of conformance/README.md, and each difference between the servers.
"""

from __future__ import annotations

import argparse
import shlex
import sys

from ..servers import PYMCD, StartError, find_memcached, reference_command, version_of
from . import runner
from .catalog import CLIENTS, HERE, Client
from .setups import SETUPS, Files

README = HERE.parent / "README.md"
BEGIN = "<!-- clients: written by python -m conformance.clients --write -->"
END = "<!-- end of clients -->"


def _result(outcome: runner.Outcome) -> str:
    total = len(outcome.checks)
    text = f"{outcome.passed} of {total}" if outcome.failures() else f"all {total}"
    return text if "exit" not in " ".join(outcome.noise) else text + ", ended early"


def examine(
    client: Client, reference: tuple[str, ...], subject: tuple[str, ...], files: Files
) -> tuple[list[str], int]:
    """Run one client with each of its setups. Returns its rows and how many were different."""
    rows, different = [], 0
    for setup in client.setups:
        if reason := runner.why_not(setup, files):
            print(f"  {client.name} {setup}: {reason}", file=sys.stderr)
            continue
        real = runner.run_on(reference, client, setup, files)
        if real.failures():  # Now and then a client loses count by itself, which tells nothing.
            real = runner.run_on(reference, client, setup, files)
        for line in real.failures():
            print(f"  {client.name} {setup}: on memcached, too: {line}", file=sys.stderr)
        try:
            ours = runner.run_on(subject, client, setup, files)
        except StartError as error:
            result = "does not start"
            different += 1
            print(f"  {client.name} {setup}: {error}", file=sys.stderr)
        else:
            result = _result(ours)
            found = runner.differences(real, ours)
            for line in found:
                print(f"  {client.name} {setup}: {line}", file=sys.stderr)
            if found:
                different += 1
                result += f", {len(found)} different"
        name = f"{client.name} ({client.language})" if setup == client.setups[0] else ""
        version = client.version() if name else ""
        what = client.what if name else ""
        rows.append(f"| {name} | {version} | {what} | {setup} | {_result(real)} | {result} |")
        print(rows[-1], flush=True)
    return rows, different


def write(rows: list[str]) -> None:
    """Put the table where README.md has its marks."""
    text = README.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    README.write_text("\n".join([head + BEGIN, *rows, END]) + tail)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.clients", description=__doc__)
    parser.add_argument("names", nargs="*", help="clients; all by default")
    parser.add_argument("--reference", help="another memcached, or a debootstrap folder with one")
    parser.add_argument("--subject", help="command of the server to examine; default pymcd")
    parser.add_argument("--write", action="store_true", help="replace the table in README.md")
    options = parser.parse_args()
    reference = reference_command(options.reference) if options.reference else find_memcached()
    if reference is None:
        print("no memcached found; --reference PATH names one", file=sys.stderr)
        return 2
    subject = tuple(shlex.split(options.subject)) if options.subject else PYMCD
    if unknown := set(options.names) - {each.name for each in CLIENTS}:
        parser.error(f"no such client: {', '.join(sorted(unknown))}")

    if options.names and options.write:
        parser.error("--write is for all of them")

    table = [
        f"Setups: {'; '.join(f'{k} `{shlex.join(v)}`' for k, v in SETUPS.items())}.",
        "",
        f"| client | version | what runs | setup | memcached {version_of(reference)} | pymcd |",
        "|---|---|---|---|---|---|",
    ]
    different = 0
    with Files() as files:
        for client in CLIENTS:
            if options.names and client.name not in options.names:
                continue
            if client.version() is None:
                print(f"  {client.name}: not installed", file=sys.stderr)
                continue
            rows, count = examine(client, reference, subject, files)
            table += rows
            different += count
    if options.write:
        write(table)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
