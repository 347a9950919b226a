"""The tool `pymcd replication ADDRESS...`: how a group of servers is doing, for a person.

It asks each server on its client port for `stats replication` and puts the answers together: who
coordinates, who is in sync and why not, and what would be lost if a node died now. One of the
servers is enough, since each tells what it knows of its peers; with all of them the picture is
whole. With `--wait` it asks until all are ready and in sync, which is what has to be known before
another one is stopped. Knows the names of the rows, and nothing else of replication.
"""

from __future__ import annotations

import dataclasses
import getopt
import json
import math
import os
import re
import sys
import textwrap
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from ..exits import EXIT_USAGE
from ..replication.link import ADVICE
from ..replication.roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING, WAITING
from .asking import (
    ACCESS_HELP,
    ACCESS_OPTIONS,
    DEFAULT_PORT,
    Access,
    AskError,
    Place,
    access_of,
    ask_report,
    parse_address,
)
from .telling import complain, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

USAGE = """\
usage: pymcd replication [--wait[=SECONDS]] [--json] [--tls] [--user NAME]
                         ADDRESS...
       pymcd replication forget NODE ADDRESS..."""

EXIT_IN_SYNC = 0
EXIT_NOT_IN_SYNC = 1
EXIT_UNREACHABLE = 2

# How long --wait waits if that is not said, and how often it asks.
WAIT_S = 60.0
WAIT_STEP_S = 0.25

TEXT_WIDTH = 96
SCREEN_WIDTH = 80
# Nodes that are well hear of each other once a second.
SILENT_S = 2.5

# States that are no roles.
IN_SYNC = "in_sync"
OFF = "off"

STATES: dict[str, str] = {
    IN_SYNC: "in sync",
    ALONE: "alone",
    JOINING: "catching up",
    STARTING: "starting",
    WAITING: "waiting",
    OFF: "not replicated",
}
ROLES: dict[str, str] = {
    COORDINATOR: "coordinates",
    ALONE: "coordinates",
    FOLLOWER: "follows",
    "none": "-",
}


# Errors that only repeat what is said anyway.
_SAYS_NOTHING = ("", "-", "disconnected", "silent", "the_link_is_down", "no_answer_in_time")


class _Report:
    """Rows of `stats replication`."""

    rows: dict[str, str]

    @property
    def version(self) -> str:
        """Which pymcd it is."""
        return self.rows.get("pymcd_version") or "-"

    def number(self, name: str) -> float:
        """Return a number, 0 for what is none."""
        try:
            return float(self.rows.get(name, ""))
        except ValueError:
            return 0.0


@dataclasses.dataclass
class Peer(_Report):
    """What a server says of another node."""

    node_id: str
    address: str
    rows: dict[str, str]

    @property
    def name(self) -> str:
        """What to call it: its name if that is known yet, or where it should be."""
        return self.node_id if self.node_id not in ("", "-") else self.address

    @property
    def in_sync(self) -> bool:
        """Whether it has all that it must have."""
        return self.rows.get("in_sync") == "yes"

    @property
    def silent_s(self) -> float:
        """For how long nothing was heard of it; 0 if that is no longer than usual."""
        heard_s = self.number("last_heard_ms") / 1000
        return heard_s if self.rows.get("link") != "up" or heard_s >= SILENT_S else 0.0

    @property
    def host(self) -> str:
        """Where it is. The port is that of the link, and nothing to connect to."""
        return self.address.rpartition(":")[0] or self.address


@dataclasses.dataclass
class Answer(_Report):
    """What one server said, or why it said nothing."""

    address: str
    rows: dict[str, str]
    error: str = ""

    @property
    def state(self) -> str:
        """Return the word of the row."""
        return self.rows.get("state", "")

    @property
    def name(self) -> str:
        """What to call it: its name among its peers, or where it was asked."""
        return self.rows.get("node_id") or self.address

    @property
    def in_sync(self) -> bool:
        """Whether this server and all peers that it should have are in sync."""
        return self.state == IN_SYNC and self.rows.get("degraded") != "yes"

    @property
    def alone_s(self) -> float:
        """For how long it has been alone; 0: it is not, or it is meant to be."""
        return self.number("degraded_now_seconds") if self.state == ALONE else 0.0

    def judged_peers(self) -> list[Peer]:
        """Return those peers of whom it knows whether they are in sync.

        Of those that follow as it does, only the coordinator does.
        """
        coordinator = self.rows.get("coordinator")
        return [
            peer
            for peer in self.peers()
            if self.rows.get("role") != FOLLOWER or peer.node_id == coordinator
        ]

    def peers(self) -> list[Peer]:
        """Return what it says of the others."""
        found: dict[str, dict[str, str]] = {}
        for name, value in self.rows.items():
            number, colon, what = name.removeprefix("peer_").partition(":")
            if colon and name.startswith("peer_"):
                found.setdefault(number, {})[what] = value
        return [
            Peer(rows.get("node_id", "-"), rows.get("address", "-"), rows)
            for rows in found.values()
        ]


def replication(words: list[str]) -> int:
    """Print how the servers at these addresses are doing; return the exit code."""
    try:
        # getopt knows no words that may be left out.
        words = [f"--wait={WAIT_S:.0f}" if word == "--wait" else word for word in words]
        given, names = getopt.gnu_getopt(words, "h", OPTIONS)
        options = dict(given)
        if "-h" in options or "--help" in options:
            tell(HELP)
            return 0
        forgotten = ""
        if names[:1] == ["forget"]:
            forgotten, names = (names[1] if names[1:] else ""), names[2:]
            if not forgotten or " " in forgotten:
                raise ValueError("forget whom?")
        addresses = list(dict.fromkeys(map(parse_address, names)))
        if not addresses:
            raise ValueError("no address")
        wait_s = _seconds(options.get("--wait", "0"))
        access = access_of(options)
    except (getopt.GetoptError, ValueError, OSError) as error:
        why = f"{error}\n{USAGE}"
        if isinstance(error, OSError):
            why = f"{error.filename or 'certificate'}: {error.strerror}"
        complain(f"pymcd replication: {why}")
        return EXIT_USAGE
    if forgotten:
        return _forget(forgotten, addresses, access)

    def ask() -> list[Answer]:
        return [_ask(place, access) for place in addresses]

    answers = ask() if not wait_s else wait_for(ask, wait_s, show=_show_in_place)
    now = time.time()
    if "--json" in options:
        tell(json.dumps(as_data(answers, now), indent=2))
    else:
        tell(as_text(answers, now, _width(sys.stdout, TEXT_WIDTH)))
    return exit_code(answers, to_stop=wait_s > 0)


OPTIONS = ["help", "wait=", "json", *ACCESS_OPTIONS]

HELP = f"""\
{USAGE}

Tells which node of a group coordinates, whether all are in sync or why not, and
what would be lost if a node died now. An ADDRESS is where clients connect:
HOST, HOST:PORT (default port {DEFAULT_PORT}), [V6]:PORT, or the path of a Unix socket.

`forget NODE` has the servers forget a node that will not return, so that they
do not miss it.

  --wait[=SECONDS]
                  ask until all are ready and in sync, so that another node may
                  be stopped, or until the time is up (default {WAIT_S:.0f}); then say
                  which is not, and why
  --json          the same for programs
{ACCESS_HELP}

Exit code: {EXIT_IN_SYNC} all answer and are in sync, and, with --wait, any one may be
stopped; {EXIT_NOT_IN_SYNC} not so; {EXIT_UNREACHABLE} none answers."""


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", text):
        raise ValueError(f"--wait={text}: no number of seconds")
    return float(text)


def _ask(place: Place, access: Access) -> Answer:
    try:
        return Answer(str(place), ask_report(*place, "replication", access))
    except AskError as error:
        return Answer(str(place), {}, str(error))


def wait_for(
    ask: Callable[[], list[Answer]],
    wait_s: float,
    *,
    show: Callable[[str], None],
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Answer]:
    """Ask until any one node may be stopped, or the time is up; return what was answered last.

    `show` is told what is waited for, and nothing at the end.
    """
    until = now() + wait_s
    while True:
        answers = ask()
        wrong = obstacles(answers)
        left_s = until - now()
        if not wrong or left_s <= 0:
            show("")
            return answers
        show(f"waiting: {wrong[0]}")
        sleep(min(WAIT_STEP_S, left_s))


def _show_in_place(words: str) -> None:
    """Show a line that the next one replaces, to a person."""
    if sys.stderr.isatty():
        width = _width(sys.stderr, TEXT_WIDTH) - 1
        print(f"\r\x1b[K{words[:width]}", end="", file=sys.stderr, flush=True)  # noqa: T201


def _width(stream: TextIO, most: int) -> int:
    """Return how many columns to use: of a terminal that says it, as many as it has."""
    if not stream.isatty():
        return most
    columns = os.get_terminal_size(stream.fileno()).columns
    return min(columns or SCREEN_WIDTH, most)


def _forget(node_id: str, addresses: list[Place], access: Access) -> int:
    """Have servers forget a node, and say whether they did; return the exit code."""
    code = EXIT_IN_SYNC
    for address in addresses:
        try:
            rows = ask_report(*address, f"replication forget {node_id}", access)
        except AskError as error:
            tell(f"{address} does not answer ({error}).")
            code = EXIT_UNREACHABLE
            continue
        if rows.get("forgotten") == node_id:
            tell(f"{address} has forgotten {node_id}.")
        else:
            why = rows.get("not_forgotten", "it is too old").replace("_", " ")
            tell(f"{address} has not forgotten {node_id}: {why}.")
            code = max(code, EXIT_NOT_IN_SYNC)
    return code


# -- judging -----------------------------------------------------------------------------------


def exit_code(answers: list[Answer], *, to_stop: bool = False) -> int:
    """Return what a script wants to know; `to_stop`: it is about to stop one of the nodes."""
    if all(answer.error for answer in answers):
        return EXIT_UNREACHABLE
    wrong = obstacles(answers) if to_stop else problems(answers)
    return EXIT_IN_SYNC if not wrong else EXIT_NOT_IN_SYNC


def coordinators(answers: list[Answer]) -> list[str]:
    """Return who decides the order of writes: one name, several while nodes are separated."""
    names = [
        answer.rows.get("coordinator", "-") if answer.state in (IN_SYNC, JOINING) else answer.name
        for answer in answers
        if answer.state in (IN_SYNC, JOINING, ALONE)
    ]
    return [name for name in dict.fromkeys(names) if name != "-"]


def problems(answers: list[Answer]) -> list[str]:
    """Return, in sentences, why the nodes are not all in sync; none if they are."""
    return list(dict.fromkeys(_problems(answers)))


def obstacles(answers: list[Answer]) -> list[str]:
    """Return why one of the nodes, whichever, should not be stopped now; none if it may be."""
    voters, spare = _votes(answers)
    needed = [name for name in voters if name not in spare]
    more = [f"The others would not have the votes without {_and(needed)}."] if needed else []
    return problems(answers) + more


def _votes(answers: list[Answer]) -> tuple[list[str], list[str]]:
    """Return who votes and which of them may fail, as who decides knows; none where nobody does."""
    knowing = [answer for answer in answers if answer.rows.get("voters", "-") != "-"]
    knowing.sort(key=lambda answer: answer.rows.get("role") != COORDINATOR)
    for answer in knowing:
        spare = [name for name in answer.rows.get("may_fail", "-").split(",") if name != "-"]
        return answer.rows["voters"].split(","), spare
    return [], []


def _problems(answers: list[Answer]) -> Iterator[str]:
    heard = {answer.name for answer in answers if not answer.error}
    alone = [answer for answer in answers if answer.state == ALONE]
    for answer in answers:
        if answer.error:
            waits = ""
            if answer.error == "connection refused":
                waits = ": it is not running, or has not got its items from its peer yet"
            yield f"{answer.address} does not answer ({answer.error}){waits}."
        elif answer.state == OFF:
            yield f"{answer.name} does not replicate: it was started without --peer."
    if len(alone) > 1:
        names = _and([answer.name for answer in alone])
        yield (
            f"{names} do not see each other, and each serves alone. Of what is written on both,"
            " the later write will stay."
        )
    for answer in answers:
        if answer.error or answer.state == OFF:
            continue
        if answer.rows.get("draining") == "yes":
            yield f"{answer.name} is about to stop."
        elif answer.in_sync and answer.rows.get("ready") == "no":
            yield f"{answer.name} is in sync, but does not let clients in yet."
        if answer.state == ALONE and answer.rows.get("ack_mode") == "strict":
            yield f"{answer.name} refuses writes until another node is in sync (strict)."
        if answer.state == WAITING:
            yield f"{answer.name} serves nobody: it has not the votes to go on."
        if answer.rows.get("witness_link") == "down":
            error = answer.rows.get("witness_error", "-")
            because = f": {_words(error)}" if error not in _SAYS_NOTHING else ""
            yield f"{answer.name} cannot have the vote of the witness{because}."
        for peer in answer.judged_peers():
            if not peer.in_sync and not (peer.node_id in heard and answer.state == JOINING):
                yield from _why_not(answer, peer)
        refusal = answer.rows.get("last_refusal", "-")
        if refusal not in ("", "-") and not answer.in_sync:
            yield f"At {answer.name} a link was refused: {_words(refusal)}."
        elif not answer.peers() and answer.state != IN_SYNC:
            yield f"{answer.name} has not met another node yet. Its log tells why."
    groups = {
        (answer.rows.get("coordinator"), answer.rows.get("epoch"))
        for answer in answers
        if answer.state == IN_SYNC
    }
    if len(groups) > 1:
        yield "These servers belong to different groups."


def _why_not(answer: Answer, peer: Peer) -> Iterator[str]:
    """Say why a peer is not in sync, as one node sees it."""
    link, doing = peer.rows.get("link", "down"), peer.rows.get("state", "")
    error = peer.rows.get("last_error", "-")
    because = f": {_words(error)}" if error not in _SAYS_NOTHING else ""
    if link == "up" and doing in ("sending_full", "sending_partial"):
        what = "all items" if doing == "sending_full" else "what changed meanwhile"
        total = int(peer.number("copied_of"))
        done = f": {int(peer.number('copied_items')):,} of {total:,}" if total else ""
        broken = int(peer.number("copies_broken"))
        again = f", after {_count(broken, 'copy', 'copies')} that broke off" if broken else ""
        yield f"{answer.name} is sending {what} to {peer.name}{done}{again}."
    elif link == "up" and not peer.silent_s:
        yield f"{answer.name} is linked with {peer.name}, which is catching up."
    elif link == "handshake":
        yield f"{answer.name} and {peer.name} are about to link{because}."
    else:
        slow = peer.number("answer_ms") > answer.number("ack_timeout_ms") / 2 > 0
        if slow and link == "up":
            because += (
                f": answers took {peer.number('answer_ms'):.0f} ms, and"
                f" --replication-ack-timeout is {answer.number('ack_timeout_ms'):.0f} ms"
            )
        ago = f", last heard {_duration(peer.silent_s)} ago" if peer.silent_s else ""
        what = "has no link to" if link == "down" else "gets no answer from"
        yield f"{answer.name} {what} {peer.name}{ago}{because}."


@dataclasses.dataclass
class Cost:
    """What would be lost if one node died now."""

    node: str
    address: str
    writes: int
    since: float | None  # Unix time; None where it does not matter
    words: str


def costs(answers: list[Answer], now: float) -> list[Cost]:
    """Return what the death of each answering node would cost."""
    found: list[Cost] = []
    alive = {answer.name for answer in answers if not answer.error}
    for answer in answers:
        if answer.error or answer.state == OFF:
            continue
        writes, since, words = 0, None, "nothing that was acknowledged"
        if answer.state == ALONE:
            writes = int(answer.number("unprotected_now"))
            since = now - answer.alone_s if answer.alone_s else None
            parts = []
            if writes:
                when = f" since {_clock(since, now)}" if since is not None else ""
                parts.append(f"{_count(writes, 'write')} that it acknowledged alone{when}")
            if doubtful := [peer.name for peer in answer.peers() if peer.name not in alive]:
                others = "all other items" if writes else "all items"
                have = "has" if len(doubtful) == 1 else "have"
                parts.append(f"{others} unless {_and(doubtful)} still {have} them")
            elif not answer.peers():
                parts = ["all items"]
            words = ", and ".join(parts) or words
        elif answer.state == WAITING:
            words = _what_waits(answer, answers) or words
        elif answer.rows.get("ack_mode") == "async" and answer.rows.get("role") == COORDINATOR:
            writes = int(max((peer.number("lag_items") for peer in answer.peers()), default=0))
            words = "what it acknowledged in the last moments, now " + _count(writes, "write")
        elif answer.in_sync:
            words += _but_what_others_evicted(answer, answers)
        found.append(Cost(answer.name, answer.address, writes, since, words))
    return found


def _what_waits(answer: Answer, answers: list[Answer]) -> str:
    """Say what only a node that waits may have; nothing: others have it as well."""
    voters = set(answer.rows.get("voters", "").split(","))
    others = [each for each in answers if each is not answer and not each.error]
    if any(each.state in (IN_SYNC, ALONE) or each.name in voters for each in others):
        return ""
    missing = [peer.name for peer in answer.peers() if peer.node_id in voters]
    if not missing:
        return ""
    words = "what the others do not have of its items" if others else "all items"
    have = "has" if len(missing) == 1 else "have"
    return f"{words} unless {_and(missing)} still {have} them"


def _but_what_others_evicted(dead: Answer, answers: list[Answer]) -> str:
    """Say what those who are in sync with a node may lack all the same."""
    asked = {answer.name: answer for answer in answers if not answer.error}
    for peer in dead.peers():
        if not peer.in_sync:
            continue
        if peer.name in asked:
            evicted = int(asked[peer.name].number("evictions"))
            if evicted:
                return f", but up to {_count(evicted, 'item')} that {peer.name} has evicted"
        elif 0 < peer.number("memory_limit") < (dead.number("memory_limit") or math.inf):
            return f", but what {peer.name}, whose -m is smaller, may have evicted"
    return ""


# -- telling -----------------------------------------------------------------------------------


def as_text(answers: list[Answer], now: float, width: int = TEXT_WIDTH) -> str:
    """Return the whole report, without the last line end; sentences are as wide as that."""
    wrapped = partial(_wrapped, width=width)
    wrong = problems(answers)
    paragraphs = [_table(_table_rows(answers))]
    if not wrong:
        mode = next(answer.rows.get("ack_mode", "") for answer in answers)
        paragraphs.append(f"In sync. {_MODES.get(mode, '')}".strip())
    else:
        sentences = [wrapped(words, indent="  ") for words in wrong]
        in_sync = all(answer.in_sync for answer in answers)
        heading = "In sync, but:" if in_sync else "Not in sync:"
        paragraphs.append("\n".join([heading, *sentences]))
    paragraphs.append("\n".join(map(wrapped, _vote_lines(answers))))
    paragraphs.append("\n".join(map(wrapped, _cost_lines(answers, now))))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _vote_lines(answers: list[Answer]) -> Iterator[str]:
    """Say who votes, and who may fail."""
    voters, spare = _votes(answers)
    if voters:
        if spare == voters and len(voters) > 1:
            may = "Any one of them may fail now."
        elif spare:
            may = f"Of these only {' or '.join(spare)} may fail now."
        else:
            may = "None of them may fail now."
        yield f"The votes are those of {_and(voters)}. {may}"
    for answer in answers:
        error = answer.rows.get("witness_error", "-")
        if answer.rows.get("witness_link") == "up" and error != "-":
            yield f"{answer.name} can have the vote of the witness, but: {_words(error)}."


_MODES = {
    "async": "Writes are answered at once, and reach the others a moment later.",
    "semi": "Writes are answered when the other nodes have them.",
    "strict": "Writes are answered only when the other nodes have them.",
}


def _table_rows(answers: list[Answer]) -> list[tuple[str, ...]]:
    """Return one row for each node: those asked, then those only heard of."""
    rows: list[tuple[str, ...]] = [("NODE", "ADDRESS", "STATE", "ROLE", "BEHIND", "VERSION")]
    seen_by_others = {
        peer.node_id: peer for answer in answers for peer in answer.peers() if peer.in_sync
    }
    for answer in answers:
        if answer.error:
            rows.append(("?", answer.address, "no answer", "-", "-", "-"))
            continue
        state = STATES.get(answer.state, answer.state)
        if answer.alone_s:
            state += f" for {_duration(answer.alone_s)}"
        role = ROLES.get(answer.rows.get("role", ""), "-")
        peer = seen_by_others.get(answer.name)
        rows.append((answer.name, answer.address, state, role, _behind(peer), answer.version))
    known = {answer.name for answer in answers}
    unknown_asked = [answer for answer in answers if answer.error]
    for answer in answers:
        judged = {peer.node_id for peer in answer.judged_peers()}
        for peer in answer.peers():
            # A server that does not answer is most likely the one its peer misses.
            if peer.name in known or (unknown_asked and not peer.in_sync):
                continue
            known.add(peer.name)
            state = "in sync" if peer.in_sync else "not in sync"
            if peer.node_id not in judged:
                state = "linked" if peer.rows.get("link") == "up" else "no link"
            role = "-"
            if peer.in_sync:
                coordinates = answer.rows.get("coordinator") == peer.node_id
                role = "coordinates" if coordinates else "follows"
            rows.append((peer.name, f"({peer.host})", state, role, _behind(peer), peer.version))
    return rows


def _behind(peer: Peer | None) -> str:
    if peer is None or not peer.in_sync:
        return "-"
    items = int(peer.number("lag_items"))
    return f"{_count(items, 'change')}, {peer.number('lag_ms'):.0f} ms" if items else "nothing"


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cost_lines(answers: list[Answer], now: float) -> Iterator[str]:
    found = costs(answers, now)
    silent = any(answer.error for answer in answers)
    if len(found) > 1 and len({cost.words for cost in found}) == 1 and not silent:
        which = "either node" if len(found) == 2 else "any one node"
        yield f"If {which} died now, you would lose {found[0].words}."
        return
    for cost in found:
        yield f"If {cost.node} died now, you would lose {cost.words}."


def as_data(answers: list[Answer], now: float) -> dict[str, Any]:
    """Return the same for programs. `Any`, since JSON is made of it."""
    lost = {cost.address: cost for cost in costs(answers, now)}
    wrong = problems(answers)
    voters, spare = _votes(answers)
    return {
        "in_sync": exit_code(answers) == EXIT_IN_SYNC,
        "coordinators": coordinators(answers),
        "problems": wrong,
        "nodes": [
            {
                "address": answer.address,
                "error": answer.error or None,
                "node_id": answer.rows.get("node_id"),
                "state": answer.state or None,
                "role": answer.rows.get("role"),
                "pymcd_version": answer.rows.get("pymcd_version"),
                "may_stop": not wrong and (not voters or answer.name in spare),
                "would_lose_writes": cost and cost.writes,
                "would_lose_since": cost and cost.since,
                "stats": answer.rows,
            }
            for answer, cost in ((answer, lost.get(answer.address)) for answer in answers)
        ],
    }


def _wrapped(words: str, indent: str = "", *, width: int) -> str:
    return textwrap.fill(
        words,
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _words(value: str) -> str:
    """Return a value of a row, which holds no blanks, as words."""
    return ADVICE.get(value) or value.replace("_", " ")


def _count(number: int, what: str, several: str = "") -> str:
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _clock(moment: float, now: float) -> str:
    """Return a time of day, with the date if that is another."""
    then = time.localtime(moment)
    same_day = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M", then)


def _duration(seconds: float) -> str:
    """Return a time span in at most two units."""
    for unit, size, smaller, smaller_size in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if seconds >= size:
            rest = int(seconds % size // smaller_size)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
