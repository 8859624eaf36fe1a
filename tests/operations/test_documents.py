"""Dashboard, alerts and runbook speak of the metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import promql_parser as promql
import pytest
import yaml

from rapport.cli.scrape import Scrape
from rapport.common.settings import load
from rapport.gateway.config import GatewaySettings
from rapport.service.config import ServiceSettings
from rapport.service.rpc.grpc_status import KINDS
from tests.operations.conftest import Family

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "deploy/grafana/rapport.json").read_text(encoding="utf-8"))
PROMETHEUS = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
# What Prometheus itself adds to each series, and the series that it adds.
ADDED = {"job", "instance"}
OWN = {"up"}
# Labels of which every value is told from the start, and those whose values only the code knows.
TOLD = {"state", "kind", "source", "outcome", "part", "bound"}
KNOWN = {
    "code": {code.name for code in grpc.StatusCode},
    "reason": {kind.reason for kind in KINDS.values()},
}
ROW = re.compile(r"\| `(rapport_\w+)` \| (\w+) \|([^|]*)\| (.*) \|")


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels", [])


def expressions() -> Iterator[tuple[str, str]]:
    """Every query, with what it is called."""
    for panel in panels():
        for target in panel.get("targets", []):
            name = f"{panel['title']} {target['refId']}"
            yield name, target["expr"].replace("$__rate_interval", "5m")
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]


EXPRESSIONS = dict(expressions())


def nodes(expression: str) -> list[Any]:
    found: list[Any] = []
    promql.walk(promql.parse(expression), found.append)
    return found


def series(scrapes: tuple[Scrape, ...], name: str) -> list[dict[str, str]]:
    """The labels of each series of a name."""
    every = (sample for scrape in scrapes for sample in scrape.samples)
    return [sample.labels for sample in every if sample.name == name]


def selectors(expression: str) -> Iterator[Any]:
    for node in nodes(expression):
        if isinstance(node, promql.VectorSelector):
            yield node


def check_matcher(matcher: Any, labels: list[dict[str, str]]) -> None:
    """The label is one of the series', and each value that it names is one it can have."""
    assert all(matcher.name in each for each in labels)
    if matcher.name not in TOLD | KNOWN.keys():
        return
    values = KNOWN.get(matcher.name) or {each[matcher.name] for each in labels}
    assert set(matcher.value.split("|")) <= values


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_queries_find_series(scrapes: tuple[Scrape, ...], name: str) -> None:
    """Each name in a query is a series that a served process tells, with the labels asked for."""
    used = list(selectors(EXPRESSIONS[name]))
    assert used
    for selector in used:
        if selector.name in OWN:
            continue
        labels = series(scrapes, selector.name)
        assert labels, f"there is no {selector.name}"
        for matcher in selector.matchers.matchers:
            if matcher.name not in ADDED:
                check_matcher(matcher, labels)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_queries_group_by_labels_that_there_are(scrapes: tuple[Scrape, ...], name: str) -> None:
    """What is summed by a label has that label."""
    for node in nodes(EXPRESSIONS[name]):
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            (selector,) = selectors(node.expr.prettify())
            for labels in series(scrapes, selector.name):
                assert set(node.modifier.labels) - ADDED <= labels.keys()


@pytest.mark.parametrize("name", [name for name in EXPRESSIONS if "histogram" in EXPRESSIONS[name]])
def test_quantiles_are_of_buckets(name: str) -> None:
    """A quantile needs buckets, by their bounds."""
    (selector,) = selectors(EXPRESSIONS[name])
    assert selector.name.endswith("_bucket")
    sums = [node for node in nodes(EXPRESSIONS[name]) if isinstance(node, promql.AggregateExpr)]
    assert all("le" in node.modifier.labels for node in sums)


def test_metrics_of_the_inference_gateway_are_gauges() -> None:
    """What the endpoint picker is given are gauges of one series, as its protocol asks."""
    scaling = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    kinds = {name: (kind, labels.strip()) for name, kind, labels, _ in ROW.findall(METRICS)}
    named = re.findall(r"^\| (?:Total|KVCache).* \| `(rapport_\w+)`", scaling, re.MULTILINE)
    assert [kinds[name] for name in named] == [("gauge", "")] * 3


def test_every_metric_is_shown_or_watched() -> None:
    """No metric of the table is left out of dashboard and alerts but those that `top` is for."""
    used = {selector.name for text in EXPRESSIONS.values() for selector in selectors(text)}
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in used}
    assert {name for name, *_ in ROW.findall(METRICS)} - shown == {
        "rapport_build_info",
        "rapport_accepted_requests_total",
        "rapport_gateway_request_duration_seconds",
        "rapport_key_requests_total",
        "rapport_key_tokens_total",
        "rapport_prefix_blocks",
    }


def test_table(families: dict[str, Family]) -> None:
    """The table has each metric with its type, its labels and its help text, and no other."""
    rows = {name: cells for name, *cells in ROW.findall(METRICS)}
    assert rows.keys() == families.keys()
    # Without keys those of keys have no series, and so no labels.
    keyed = {"rapport_key_requests_total", "rapport_key_tokens_total"}
    for name, (kind, labels, description) in rows.items():
        family = families[name]
        assert kind == family.type
        assert name in keyed or set(re.findall(r"`(\w+)`", labels)) == family.labels, name
        assert description.startswith(family.help), name


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alerts_have_a_runbook(rule: dict[str, Any]) -> None:
    """Each alert leads to the section of its name, which says something."""
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert path == "docs/runbook.md"
    assert anchor == rule["alert"].lower()
    _, _, section = RUNBOOK.partition(f"\n### {rule['alert']}\n")
    text, _, _ = section.partition("\n#")
    assert len(text.split()) > 20
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]


def test_runbook_has_no_other_alerts() -> None:
    """No section is of an alert that there is no more."""
    assert set(re.findall(r"^### (Rapport\w+)$", RUNBOOK, re.MULTILINE)) == {
        rule["alert"] for rule in ALERTS
    }


def test_alerts_differ_from_a_quiet_server(scrapes: tuple[Scrape, ...]) -> None:
    """Each alert compares, so that it can be silent."""
    del scrapes
    comparisons = {">", "<", "==", "!=", ">=", "<="}
    for rule in ALERTS:
        parsed = promql.parse(rule["expr"])
        assert isinstance(parsed, promql.BinaryExpr)
        assert str(parsed.op) in comparisons


def test_scrape_configuration() -> None:
    """The jobs are those that the queries name, at the ports where metrics are by default."""
    found = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in PROMETHEUS["scrape_configs"]
    }
    service, gateway = load(ServiceSettings, []), load(GatewaySettings, [])
    assert found == {
        "rapport-service": [f"127.0.0.1:{service.metrics_port}"],
        "rapport-gateway": [f"127.0.0.1:{gateway.gateway_metrics_port}"],
    }
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]


def test_dashboard_panels() -> None:
    """Panels have ids of their own, a data source that can be chosen, and do not overlap."""
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    places = set()
    for panel in panels():
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & places
        places |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
