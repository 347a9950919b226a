"""Every case of the transcripts: pymcd answers as memcached does, byte for byte."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from .accepted import CRASHES, OLDER_VERSION, PENDING, accepted_for, named, older_for
from .conversation import encode, hold, record, recorded
from .servers import FOLLOWED
from .transcripts import (
    Case,
    admin,
    arithmetic,
    binary,
    cas,
    deletion,
    effects,
    errors,
    limits,
    meta,
    quiet,
    retrieval,
    storage,
    udp,
    watching,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Servers

MODULES = (
    storage,
    retrieval,
    cas,
    arithmetic,
    binary,
    deletion,
    effects,
    quiet,
    errors,
    limits,
    admin,
    udp,
    meta,
    watching,
)
CASES: list[Case] = [case for module in MODULES for case in module.CASES]


def _id(case: Case) -> str:
    return f"{case} {' '.join(case.switches)}".strip()


def test_no_two_cases_share_a_name() -> None:
    names = [_id(case) for case in CASES]
    assert sorted(names) == sorted(set(names))


@pytest.fixture(scope="session")
def recordings(
    pytestconfig: pytest.Config, reference_version: str
) -> Iterator[dict[str, dict[str, object]]]:
    """What is recorded, by topic; with --record, what this run adds is written at its end."""
    if not pytestconfig.getoption("--record"):
        yield {topic: recorded(topic) for topic in {case.topic for case in CASES}}
        return
    fresh: dict[str, dict[str, object]] = defaultdict(lambda: {"memcached": "", "answers": {}})
    yield fresh
    for topic, added in fresh.items():
        kept: dict[str, list[object]] = recorded(topic)["answers"]  # type: ignore[assignment]
        names = {_id(case) for case in CASES}
        answers = {name: answer for name, answer in kept.items() if name in names}
        record(topic, reference_version, answers | added["answers"])  # type: ignore[operator]


@pytest.mark.parametrize("case", CASES, ids=_id)
def test_transcript(
    case: Case,
    servers: Servers,
    subject: tuple[str, ...],
    reference_or_none: tuple[str, ...] | None,
    reference_version: str,
    recordings: dict[str, dict[str, object]],
    pytestconfig: pytest.Config,
    request: pytest.FixtureRequest,
) -> None:
    kept = recordings[case.topic]
    known: dict[str, list[object]] = kept["answers"]  # type: ignore[assignment]
    real: list[bytes] | None = None
    if named(case, CRASHES):
        known.setdefault(_id(case), _kept(case))
    elif reference_or_none is not None:
        server = servers.get(reference_or_none, case.switches, fresh=case.fresh)
        real = hold(server, case)
        if pytestconfig.getoption("--record"):
            known[_id(case)] = [encode(each) for each in real]
        elif reference_version == FOLLOWED:
            assert [encode(each) for each in real] == known.get(_id(case)), "the record is stale"
        else:
            _check_older(case, reference_version, real, known[_id(case)])
            real = None
    elif _id(case) not in known:
        pytest.skip("no memcached installed, and no answers recorded")

    twin = "memcached" in subject[-1]
    if not twin and named(case, PENDING):
        request.applymarker(pytest.mark.xfail(reason="not built yet", strict=True))
    got = hold(servers.get(subject, case.switches, fresh=case.fresh), case)
    row = None if twin else accepted_for(case)
    for number, answer in enumerate(got):
        expected = known[_id(case)][number]
        if row is not None and number in row.answers:
            assert answer == row.answers[number], row.reason
            assert encode(answer) != expected, "it answers as memcached does: its row has to go"
            continue
        if encode(answer) != expected:
            pytest.fail(
                f"sent        {_short(case.steps[number])}\n"
                f"memcached   {_short(real[number] if real is not None else expected)}\n"
                f"subject     {_short(answer)}",
                pytrace=False,
            )


def _kept(case: Case) -> list[object]:
    answers: dict[str, list[object]] = recorded(case.topic)["answers"]  # type: ignore[assignment]
    return answers[_id(case)]


def _check_older(case: Case, version: str, real: list[bytes], known: list[object]) -> None:
    """An older memcached answers as the record says, unless there is a row for it."""
    if version != OLDER_VERSION:
        return
    answers = [encode(each.replace(version.encode(), FOLLOWED.encode())) for each in real]
    assert (answers != known) == bool(older_for(case)), f"memcached {version} answers {real}"


def _short(value: object, width: int = 500) -> str:
    text = repr(value)
    return text if len(text) <= width else f"{text[: width // 2]} ... {text[-width // 2 :]}"
