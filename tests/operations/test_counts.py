"""What a served process counts is what it did, exactly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from bench.server import Target
from rapport.cli.scrape import Scrape, scrape
from tests.contract.callers import PATH, Grpc, Rest, chat
from tests.operations.asking import FORM, leave
from tests.operations.conftest import Meter

CHAT = {"route": PATH}
WHOLE = {"method": "CreateChatCompletion"}
STREAM = {"method": "StreamChatCompletion"}


def usage(answers: list[dict[str, Any]], name: str) -> int:
    return sum(answer["usage"][name] for answer in answers)


def test_requests(service: Meter, gateway: Meter, rest: Rest, rpc: Grpc) -> None:
    """Five answers, one refusal and one caller that left are counted as just that."""
    questions = [chat(f"What is {place} times 7?", max_tokens=6) for place in range(5)]
    answers = [rest.whole(question) for question in questions[:3]]
    answers += [rpc.whole(question) for question in questions[3:]]
    rest.refusal(chat(temperature=9))
    leave(rest)
    service.wait_for_gain(7, "requests_total")
    service.wait_for_gain(1, "ended_requests_total", outcome="cancelled")
    # The last that each counts of an RPC and of a request.
    service.wait_for_gain(6, "time_to_first_token_seconds_count")
    gateway.wait_for_gain(5, "gateway_requests_total", **CHAT)
    gateway.wait_for_gain(1, "gateway_disconnects_total", **CHAT)
    gateway.wait_for_total(0, "gateway_requests_in_flight")
    seen, beside = service.read(), gateway.read()

    assert seen.gain("requests_total", code="OK", **WHOLE) == 5
    assert seen.gain("requests_total", code="INVALID_ARGUMENT", **WHOLE) == 1
    assert seen.gain("requests_total", code="CANCELLED", **STREAM) == 1
    assert seen.gain("request_duration_seconds_count") == 7
    assert seen.gain("refused_requests_total", reason="INVALID_REQUEST") == 1
    assert seen.gain("refused_requests_total") == 1
    assert seen.gain("accepted_requests_total") == 6
    outcomes = {"finished": 5, "cancelled": 1, "failed": 0}
    assert outcomes == {
        outcome: seen.gain("ended_requests_total", outcome=outcome) for outcome in outcomes
    }
    assert seen.gain("time_to_first_token_seconds_count") == 6
    assert seen.gain("queue_time_seconds_count") == 6

    assert beside.gain("gateway_requests_total", status="200", **CHAT) == 3
    assert beside.gain("gateway_requests_total", status="400", **CHAT) == 1
    assert beside.gain("gateway_requests_total", status="499", **CHAT) == 1
    assert beside.gain("gateway_disconnects_total", **CHAT) == 1
    assert beside.gain("gateway_time_to_first_byte_seconds_count", **CHAT) == 5


def test_tokens(service: Meter, rest: Rest) -> None:
    """Tokens are those that the answers' usage tells of, cached ones among them."""
    question = chat("Tell me of rivers, and of the sea that they all come to.", max_tokens=7)
    answers = [rest.whole(question | {"n": n}) for n in (1, 3, 1)]
    seen = service.read()
    assert seen.gain("prompt_tokens_total") == usage(answers, "prompt_tokens")
    assert seen.gain("completion_tokens_total") == usage(answers, "completion_tokens")
    cached = sum(answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers)
    assert seen.gain("cached_prompt_tokens_total") == cached > 0
    # The beginning that all prompts share may have been kept for the first as well.
    assert seen.gain("prefix_hits_total") >= 2
    assert seen.gain("prefix_misses_total") + seen.gain("prefix_hits_total") == 3


def test_everything_is_given_back(service: Meter, rest: Rest) -> None:
    """When nothing runs, nothing is in use."""
    rest.whole(chat(n=4))
    leave(rest)
    service.wait_for_gain(1, "ended_requests_total", outcome="cancelled")
    for name in ("slots_used", "waiting_requests", "waiting_prompt_tokens", "kv_tokens"):
        service.wait_for_total(0, name)
    for name in ("kv_reserved_tokens", "kv_usage_ratio", "kv_bytes"):
        service.wait_for_total(0, name)


def test_status_tells_what_the_metrics_do(service: Meter, rest: Rest) -> None:
    """Over REST the status has the numbers of the metrics, under other names."""
    rest.whole(chat())
    service.wait_for_gain(1, "ended_requests_total", outcome="finished")
    service.wait_for_total(0, "slots_used")
    status, now = rest.http.get("/v1/status").json(), service.read().now
    assert status["state"] == "serving"
    assert now.total("state", state="serving") == 1
    outcomes = {"finished", "cancelled", "failed"}
    for name, value in status["occupancy"].items():
        assert value == now.total(name), name
    for name, value in status["prefix_cache"].items():
        # A counter's name ends with what it is, and only one of the two is there.
        assert value == now.total(f"prefix_{name}") + now.total(f"prefix_{name}_total"), name
    assert status["requests"] == {
        "accepted": now.total("accepted_requests_total"),
        **{each: now.total("ended_requests_total", outcome=each) for each in outcomes},
    }


def test_grammars(service: Meter, rest: Rest) -> None:
    """A grammar is compiled once, has a mask for each token, and what it forces is a draft."""
    form = FORM | {"schema": FORM["schema"] | {"title": "Counted"}}
    for _ in range(2):
        rest.whole(chat(response_format=form, max_tokens=30))
    seen = service.read()
    compiled = seen.gain("grammar_compile_seconds_count")
    assert compiled + seen.gain("recalled_grammars_total") == 2
    assert seen.gain("mask_seconds_count") >= seen.gain("completion_tokens_total")
    assert seen.gain("draft_tokens_total", source="grammar") > 0
    for source in ("grammar", "text"):
        drafted = seen.gain("draft_tokens_total", source=source)
        assert 0 <= seen.gain("accepted_draft_tokens_total", source=source) <= drafted


def test_no_caller_makes_a_series(server: Target, gateway: Meter, rest: Rest) -> None:
    """Paths, verbs and ids that callers make up do not become labels."""
    before = len(scrape(str(server.gateway_metrics)).samples)
    for place in range(30):
        rest.http.get(f"/made/up/{place}")
        rest.http.request("TRACE", "/v1/models")
        rest.http.get(f"/v1/models/none{place}")
    gateway.wait_for_gain(60, "gateway_requests_total", route="other")
    gateway.wait_for_gain(30, "gateway_requests_total", route="/v1/models/{model=**}", status="404")
    after = len(scrape(str(server.gateway_metrics)).samples)
    # Two routes may be new, with a series for each bucket of two histograms.
    assert after - before < 100


def consistent(seen: Scrape) -> None:
    """Buckets rise to their count, and no number is missing."""
    for name in ("step_seconds", "decode_rows", "time_to_first_token_seconds"):
        heights = [height for _, height in sorted(seen.buckets(name).items())]
        assert heights == sorted(heights)
        assert heights[-1] == seen.total(f"{name}_count")


@pytest.mark.parametrize("part", ["service_metrics", "gateway_metrics"])
def test_scrapes_during_load(server: Target, rest: Rest, part: str) -> None:
    """While answers run, many scrapers get whole and rising numbers, and the answers stay right."""
    url, over = getattr(server, part), Event()

    def watch() -> int:
        last, looks = scrape(url), 0
        while not over.is_set() or looks == 0:
            seen = scrape(url)
            if part == "service_metrics":
                consistent(seen)
            for name in ("completion_tokens_total", "gateway_sent_bytes_total", "requests_total"):
                assert seen.total(name) >= last.total(name)
            last, looks = seen, looks + 1
        return looks

    question = chat("Count.", max_tokens=25, ignore_eos=True)
    with ThreadPoolExecutor(8) as pool:
        watchers = [pool.submit(watch) for _ in range(4)]
        try:
            answers = list(pool.map(rest.whole, [question] * 4))
        finally:
            over.set()
        assert all(watcher.result() for watcher in watchers)
    assert usage(answers, "completion_tokens") == 100
