"""The alerts: what they are about is measured, and each was seen to go off."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pymcd.readiness import State
from pymcd.web.metrics import METRICS

from .deployed import DEPLOY, documents

FOLDER = DEPLOY / "prometheus"
#: What Prometheus itself has of whoever it asks.
OF_PROMETHEUS = {"up"}
SEVERITIES = {"critical", "warning", "info"}


@pytest.fixture
def alerts() -> list[dict[str, Any]]:
    (file,) = documents(FOLDER / "pymcd.rules.yml")
    (group,) = file["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def measured(expression: str) -> set[str]:
    """Return the names of metrics in an expression."""
    bare = re.sub(r"\{.*?\}|\[.*?\]", "", expression)
    functions = set(re.findall(r"(\w+)\(", bare)) | {"or", "and"}
    return set(re.findall(r"[a-z]\w+", bare)) - functions


def test_what_alerts_are_about_is_measured(alerts: list[dict[str, Any]]) -> None:
    names = {metric.name for metric in METRICS} | OF_PROMETHEUS
    for alert in alerts:
        assert measured(alert["expr"]), alert["alert"]
        assert measured(alert["expr"]) <= names, alert["alert"]


def test_states_are_those_that_there_are(alerts: list[dict[str, Any]]) -> None:
    named = {
        state
        for alert in alerts
        for states in re.findall(r'state=~?"(.*?)"', alert["expr"])
        for state in states.split("|")
    }
    assert named
    assert named <= {state.value for state in State}


def test_each_says_what_to_do(alerts: list[dict[str, Any]]) -> None:
    for alert in alerts:
        assert alert["labels"]["severity"] in SEVERITIES
        assert alert["annotations"].keys() == {"summary", "description"}


def test_each_was_seen_to_go_off(alerts: list[dict[str, Any]]) -> None:
    (file,) = documents(FOLDER / "pymcd.rules.test.yml")
    gone_off = {
        case["alertname"]
        for test in file["tests"]
        for case in test.get("alert_rule_test", ())
        if case.get("exp_alerts")
    }
    assert {alert["alert"] for alert in alerts} == gone_off
    calm, *_ = file["tests"]
    given = {re.match(r"\w+", each["series"])[0] for each in calm["input_series"]}  # type: ignore[index]
    assert {name for alert in alerts for name in measured(alert["expr"])} == given
