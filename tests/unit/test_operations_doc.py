"""docs/operations.md, held true: its ACL suffices for everything statekit sends, its URLs are understood."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from statekit import StateKit
from statekit.store.connect import Address
from statekit.store.op import command
from tests.conftest import PATIENT
from tests.servers import SERVERS, Server, binary
from tests.tour import tour

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SERVERS)
def test_the_acl_of_the_page_suffices(name: str) -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith("ACL SETUSER"))
    with Server(binary(name)) as server:
        admin = StateKit.connect(server.url)
        admin.store.run(command(*line.split()))
        url = server.url.replace("unix://", "unix://atlas:password@")
        with StateKit.connect(url, "atlas", budget=PATIENT) as kit:
            tour(kit)
        log = admin.store.run(command("ACL", "LOG"))
        admin.close()
    assert log == []


def test_the_urls_of_the_page_are_understood() -> None:
    urls = [url for url in re.findall(r"^\| `([^`]+)`", PAGE, re.MULTILINE) if "://" in url]
    assert len(urls) == 5
    for url in urls:
        assert Address.parse(url).kind in ("redis", "unix", "sentinel", "cluster")
