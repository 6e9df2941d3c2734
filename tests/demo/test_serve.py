"""`statekit demo serve`: every pod answers by the contract, in memory and shared; sharing is the difference."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import pytest

from tests.demo.runs import Browser, running
from tests.servers import wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module", params=["memory", "shared"])
def served(request):
    with running(
        "demo", "serve", "--state", request.param, "--pods", "2", "--workers", "2", "--port", "0"
    ) as run:
        ready = run.ready()
        yield request.param, ready["pods"], ready["upstream"]


@pytest.fixture
def state(served):
    return served[0]


@pytest.fixture
def pods(served):
    return served[1]


def test_every_answer_names_pod_and_process(pods):
    for number, pod in enumerate(pods, 1):
        for path in (
            "/healthz",
            "/readyz",
            "/flags/any",
            "/pools",
            "/tenants/t/config",
            "/me",
            "/limited",
            "/no",
        ):
            _, answer, _ = Browser()("GET", pod + path)
            assert answer["pod"] == f"pod-{number}"
            assert answer["pid"] > 0


def test_a_session_from_sign_in_to_sign_out(pods):
    browser, pod = Browser(), pods[0]
    assert browser("GET", pod + "/me")[0] == 401
    assert browser("POST", pod + "/login", {"user": "ann"})[1]["user"] == "ann"
    assert len(browser.cookies) == 1


def test_a_session_is_known_to_every_process_if_shared(pods, state):
    browser = Browser()
    browser("POST", pods[0] + "/login", {"user": "bob"})
    statuses = {browser("GET", pods[turn % 2] + "/me")[0] for turn in range(16)}
    assert (statuses == {200}) == (state == "shared")


def test_a_cart_filled_anywhere(pods, state):
    browser = Browser()
    if state == "memory":  # each process has carts of its own: that is what the report shows
        browser("POST", pods[0] + "/login", {"user": "cid"})
        assert browser("POST", pods[1] + "/cart", {"item": "sku"})[0] == 401
        return
    browser("POST", pods[0] + "/login", {"user": "cid"})
    for number in range(6):
        browser("POST", pods[number % 2] + "/cart", {"item": f"sku-{number}"})
    assert browser("GET", pods[0] + "/cart")[1]["items"] == [f"sku-{number}" for number in range(6)]
    (mine,) = browser("GET", pods[1] + "/sessions")[1]["sessions"]
    assert mine["this"]
    assert browser("DELETE", f"{pods[0]}/sessions/{mine['handle']}")[1]["revoked"]
    assert browser("GET", pods[1] + "/me")[0] == 401
    browser("POST", pods[0] + "/login", {"user": "cid"})
    browser("POST", pods[1] + "/logout")
    assert browser("GET", pods[0] + "/cart")[0] == 401


@pytest.mark.parametrize("body", [{}, {"user": ""}, {"user": 7}, {"user": "x" * 81}, [], "ann"])
def test_a_sign_in_that_makes_no_sense_is_refused_in_words(pods, body):
    status, answer, _ = Browser()("POST", pods[0] + "/login", body)
    assert status == 400
    assert "user" in answer["error"]


def test_the_limit_holds_for_all_pods_together(pods, state):
    assert Browser()("GET", pods[0] + "/limited")[0] == 400
    with ThreadPoolExecutor(8) as pool:
        asked = [pods[turn % 2] + "/limited" for turn in range(440)]
        answers = list(pool.map(lambda url: Browser()("GET", url, **{"X-API-Key": "k"}), asked))
    granted = sum(status == 200 for status, _, _ in answers)
    assert granted == 100 if state == "shared" else granted > 100
    refused = next(headers for status, _, headers in answers if status == 429)
    assert refused["RateLimit-Policy"]
    assert int(refused["Retry-After"]) >= 1


def test_a_flag_written_anywhere_is_known_everywhere_at_once(pods, state):
    status, answer, _ = Browser()("PUT", pods[0] + "/flags/f", {"enabled": True, "rollout": 100})
    assert status == 200
    assert answer["acknowledged"] == answer["workers"] == (4 if state == "shared" else 1)
    read = {Browser()("GET", f"{pods[turn % 2]}/flags/f?actor=u{turn}")[1]["enabled"] for turn in range(20)}
    assert (read == {True}) == (state == "shared")
    assert Browser()("PUT", pods[0] + "/flags/f", {"rollout": 900})[0] == 422
    assert Browser()("PUT", pods[0] + "/flags/f", [1])[0] == 400


def test_the_third_party_counts_what_the_budget_grants(served):
    state, pods, upstream = served
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda turn: Browser()("GET", pods[turn % 2] + "/upstream"), range(72)))
    assert {status for status, _, _ in answers} == {200}
    stats = json.load(urlopen(upstream + "/stats", timeout=10))
    assert stats["calls"] >= 72
    assert 0 < stats["max"] <= (12 if state == "shared" else 16)
    assert Browser()("GET", pods[0] + "/pools")[1]["budget"] == 12


def test_a_quote_changes_its_own_copy_only(pods, state):
    prices = set()
    for pod in pods * 10:  # twenty over four processes: at least one of them quotes twice
        status, quote, _ = Browser()("POST", pod + "/tenants/acme/quote", {"discount": 10})
        assert status == 200
        prices.add(quote["price"])
    assert (prices == {90}) == (state == "shared")

    def discount():
        return Browser()("GET", pods[0] + "/tenants/acme/config")[1]["config"]["discount"]

    if state == "shared":
        assert {discount() for _ in range(16)} == {0}
    else:
        wait_until(discount)  # a process that quoted shows what it gave away
    assert Browser()("PUT", pods[0] + "/tenants/other/config", {"discount": 5})[1]["config"]["discount"] == 5
    assert Browser()("PUT", pods[0] + "/tenants/other/config", {"discuont": 5})[0] == 422
    assert Browser()("POST", pods[0] + "/tenants/other/quote", {"discount": "ten"})[0] == 400


def test_the_live_page_needs_nothing_from_elsewhere(pods, state):
    status, page, _ = Browser()("GET", pods[0] + "/")
    assert status == 200
    assert f"state: {state}" in page
    elsewhere = set(re.findall(r"https?://[^\"'\s]+", page)) - set(pods)
    assert elsewhere == set()


@pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on PATH")
def test_a_browser_shows_which_pods_answered(pods, tmp_path):
    quiet = (
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    )
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        *quiet,
        "--disable-sync",
        f"--user-data-dir={tmp_path}",
    ]
    command += ["--virtual-time-budget=3000", "--dump-dom", pods[0] + "/"]
    page = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    answered = set(re.findall(r"(pod-\d) · \d+", page))
    assert answered == {"pod-1", "pod-2"}


def test_only_peers_may_be_asked_from_a_browser(pods):
    _, _, headers = Browser()("GET", pods[0] + "/healthz", Origin=pods[1])
    assert headers["Access-Control-Allow-Origin"] == pods[1]
    _, _, headers = Browser()("GET", pods[0] + "/healthz", Origin="http://elsewhere.example")
    assert "Access-Control-Allow-Origin" not in headers
