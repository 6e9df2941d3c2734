"""What the shared variant promises, and how each figure is shown: one table for the terminal and the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CONTEXT", "PROMISES", "Row", "broken"]

Figures = Mapping[str, Any]
QUICK_ENOUGH_MS = 50


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `kept` is missing where nothing is promised."""

    what: str
    promise: str
    shown: Callable[[Figures], str]
    kept: Callable[[Figures], bool] | None = None
    chart: str = ""


def _milliseconds(value: float | None) -> str:
    return "never" if value is None else f"{value:,.1f} ms"


PROMISES: tuple[Row, ...] = (
    Row(
        "Calls granted to one key, worst 60 s",
        "100",
        lambda f: f"{f['permits_worst_window']:,}",
        lambda f: bool(f["permits_worst_window"] == f["permit_limit"]),
        "permits",
    ),
    Row(
        "Sessions lost, restarts included",
        "0",
        lambda f: f"{f['sessions_lost']:,} of {f['sessions_opened']:,}",
        lambda f: bool(f["sessions_opened"] > 0 and f["sessions_lost"] == 0),
        "sessions",
    ),
    Row(
        "Flag write to last old answer, p99",
        f"≤ {QUICK_ENOUGH_MS} ms",
        lambda f: _milliseconds(f["flag_convergence_p99_ms"]),
        lambda f: (
            f["flag_convergence_p99_ms"] is not None and f["flag_convergence_p99_ms"] <= QUICK_ENOUGH_MS
        ),
        "flags",
    ),
    Row(
        "Most third-party connections",
        "≤ 12",
        lambda f: f"{f['upstream_connections_max']}",
        lambda f: bool(0 < f["upstream_connections_max"] <= f["upstream_budget"]),
        "connections",
    ),
    Row(
        "Answers showing a leaked discount",
        "0",
        lambda f: f"{f['tenant_leaks']:,} of {f['tenant_checks']:,}",
        lambda f: bool(f["tenant_checks"] > 0 and f["tenant_leaks"] == 0),
        "leaks",
    ),
    Row(
        "Requests failed by the restarts",
        "0",
        lambda f: f"{f['requests_failed_in_restart']:,}",
        lambda f: bool(f["restarts"] > 0 and f["requests_failed_in_restart"] == 0),
        "latency",
    ),
)

CONTEXT: tuple[Row, ...] = (
    Row("Requests, failed", "", lambda f: f"{f['requests']:,}, {f['requests_failed']:,}"),
    Row("Requests per second", "", lambda f: f"{f['rps']:,.0f}"),
    Row(
        "Response time p50 / p95 / p99",
        "",
        lambda f: f"{f['p50_ms']} / {f['p95_ms']} / {f['p99_ms']} ms",
    ),
)


def broken(figures: Figures) -> list[str]:
    """The promises these figures break, in words."""
    return [
        f"{row.what}: {row.shown(figures)}, promised {row.promise}"
        for row in PROMISES
        if row.kept is not None and not row.kept(figures)
    ]
