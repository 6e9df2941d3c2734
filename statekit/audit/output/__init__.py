"""Reports as text: for a terminal, a program, a code host, a browser. The same findings in the same order everywhere."""

from __future__ import annotations

from importlib import import_module

from statekit.audit.model import Report

__all__ = ["FORMATS", "render"]

FORMATS = {
    "text": "text",
    "json": "json_",
    "sarif": "sarif",
    "github": "github",
    "html": "html",
    "markdown": "markdown",
}
"""Names of formats, and the module beside this one that writes each."""


def render(report: Report, format: str = "text", *, terminal: bool = False) -> str:  # noqa: A002 - the option's name
    """Write a report in one of `FORMATS`.

    Args:
        report: What to write, as it is to be shown: leave out first what is not.
        format: Its name. Raises `ValueError` for one that does not exist.
        terminal: Whether text goes to the standard output of this process: then it is as wide as the terminal and
            has colours, if that is one that shows them and NO_COLOR is not set.
    """
    if format not in FORMATS:
        raise ValueError(f"{format!r} is no format; there are {', '.join(FORMATS)}")
    module = import_module(f"statekit.audit.output.{FORMATS[format]}")
    written: str = module.render(report, terminal=terminal) if format == "text" else module.render(report)
    return written
