"""The long run by hand: `python -m conformance.fuzz --commands 1000000`.

Each run of RUN_COMMANDS commands has fresh servers and its own seed, derived from the first one, so
that a difference found after an hour is replayed in a second: `--seed` takes what was printed.
"""

from __future__ import annotations

import argparse
import functools
import secrets
import shlex
import signal
import sys
import time
from typing import TYPE_CHECKING

from .clients.setups import Files
from .differential import Pair, run
from .generators.binary import BinaryProtocol
from .generators.login import LoginProtocol
from .generators.meta import MetaProtocol
from .generators.text import TextProtocol
from .servers import FOLLOWED, PYMCD, find_memcached, reference_command, version_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .generators import Protocol

RUN_COMMANDS = 10_000
MEMORY = ("-m", "256")
# Switches of both servers; whether flush_all may be used.
VARIANTS = {
    "default": (MEMORY, True),
    "no-cas": ((*MEMORY, "-C"), False),
    "no-modern": ((*MEMORY, "-o", "no_modern"), True),
    "large-items": ((*MEMORY, "-I", "2m"), True),
    "login": (MEMORY, True),
}
#: By the name that `--protocol` takes.
PROTOCOLS: dict[str, Callable[..., Protocol]] = {
    "text": TextProtocol,
    "meta": MetaProtocol,
    "binary": BinaryProtocol,
}


def variant_of(run_number: int) -> str:
    """Return which variant a run uses: mostly the default one."""
    names = list(VARIANTS)
    return names[run_number % 8] if run_number % 8 < len(names) else "default"


@functools.cache
def login_files() -> Files:
    """Return the users of both servers, where there are logins."""
    return Files()


def pair_of(
    variant: str, reference: tuple[str, ...], subject: tuple[str, ...], protocol: str = "text"
) -> Pair:
    """Return the pair for a variant, not started."""
    switches, flushing = VARIANTS[variant]
    twins = "memcached" in subject[-1]
    generator = PROTOCOLS[protocol](flushing=flushing)
    if variant != "login":
        return Pair(reference, subject, generator, switches, twins)
    setup = "sasl" if protocol == "binary" else "auth"
    login_switches = login_files().switches(setup)
    if setup == "sasl":
        login_switches += ["-o", "no_modern"]
    environment = login_files().server_environment(setup)
    switches = tuple(login_switches)
    return Pair(reference, subject, LoginProtocol(generator), switches, twins, environment)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.fuzz", description=__doc__)
    parser.add_argument("--commands", type=int, default=100_000)
    parser.add_argument("--seed", help="one printed seed replays that run; else the first seed")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="text")
    parser.add_argument("--variant", choices=VARIANTS, help="only this one")
    parser.add_argument("--reference", help="another memcached, or a debootstrap folder with one")
    parser.add_argument("--subject", help="command of the server to examine; default pymcd")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a difference")
    options = parser.parse_args()

    # So that being ended from outside stops the servers, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    reference = reference_command(options.reference) if options.reference else find_memcached()
    if reference is None:
        print("no memcached found; --reference PATH names one", file=sys.stderr)
        return 2
    if (version := version_of(reference)) != FOLLOWED:
        print(f"the reference is {version}; {FOLLOWED} is followed", file=sys.stderr)
    subject = tuple(shlex.split(options.subject)) if options.subject else PYMCD

    seed = options.seed or secrets.token_hex(4)
    if seed.count("/") == 2:  # A whole one: base/number/variant.
        seeds = [seed]
    else:
        count = -(-options.commands // RUN_COMMANDS)
        seeds = [f"{seed}/{i}/{options.variant or variant_of(i)}" for i in range(count)]
    print(f"seed {seed}, {len(seeds)} runs of {RUN_COMMANDS} commands", flush=True)

    done = differences = 0
    began = shown = time.monotonic()
    for number, each in enumerate(seeds, 1):
        pair = pair_of(each.rpartition("/")[2], reference, subject, options.protocol)
        result = run(pair, each, RUN_COMMANDS)
        done += result.commands
        if result.reference_died:
            print(f"the reference crashed ({each}) at {result.reference_died}", flush=True)
        if result.difference is not None:
            differences += 1
            print(result.difference, flush=True)
            if not options.keep_going:
                break
        now = time.monotonic()
        if now - shown > 2 or number == len(seeds):
            shown = now
            print(
                f"{done} commands, {differences} differences, {done / (now - began):.0f} "
                f"commands a second, run {number} of {len(seeds)}",
                flush=True,
            )
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
