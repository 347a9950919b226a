"""Every case of the transcripts: pymcd answers as memcached does, byte for byte."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from .accepted import accepted_for, pending_for
from .conversation import encode, hold, record, recorded
from .newer import FOLLOWED, hide, skipped_for
from .transcripts import (
    Case,
    admin,
    arithmetic,
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
    for topic, kept in fresh.items():
        record(topic, reference_version, kept["answers"])  # type: ignore[arg-type]


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
    if reference_or_none is not None:
        server = servers.get(reference_or_none, case.switches, fresh=case.fresh)
        real = hold(server, case)
        if pytestconfig.getoption("--record"):
            known[_id(case)] = [encode(each) for each in real]
        elif reference_version == kept["memcached"]:
            assert [encode(each) for each in real] == known.get(_id(case)), "the record is stale"
    elif _id(case) not in known:
        pytest.skip("no memcached installed, and no answers recorded")

    twin = "memcached" in subject[-1]
    newer = not twin and reference_version not in ("", FOLLOWED)
    if newer and (why := skipped_for(case)):
        pytest.skip(why)
    if not twin and (pending := pending_for(case)):
        request.applymarker(pytest.mark.xfail(reason=f"not built yet: {pending}", strict=True))
    got = hold(servers.get(subject, case.switches, fresh=case.fresh), case)
    row = None if twin else accepted_for(case)
    for number, answer in enumerate(got):
        if row is not None and number in row.answers:
            assert answer == row.answers[number], row.reason
            continue
        if newer and real is not None:
            answer, real[number] = hide(answer), hide(real[number])
        expected = encode(real[number]) if real is not None else known[_id(case)][number]
        if encode(answer) != expected:
            pytest.fail(
                f"sent        {_short(case.steps[number])}\n"
                f"memcached   {_short(real[number] if real is not None else expected)}\n"
                f"subject     {_short(answer)}",
                pytrace=False,
            )


def _short(value: object, width: int = 500) -> str:
    text = repr(value)
    return text if len(text) <= width else f"{text[: width // 2]} ... {text[-width // 2 :]}"
