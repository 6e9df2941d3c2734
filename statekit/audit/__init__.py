"""The state audit: reads a project's source, never imports it, and names the state its processes keep.

    from statekit.audit import audit
    for finding in audit("src").findings:
        print(finding.path, finding.line, finding.qualified_name, finding.why)

A name's module is imported when the name is first asked for: other interpreters import this package to read files.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statekit.audit.config import Config
    from statekit.audit.model import Category, Confidence, Finding, Report, Severity, Site
    from statekit.audit.run import audit, shown

__all__ = ["Category", "Confidence", "Config", "Finding", "Report", "Severity", "Site", "audit", "shown"]

_HOMES = {"Config": "config", "audit": "run", "shown": "run"}


def __getattr__(name: str) -> Any:
    """Import a public name from its home, once."""
    if name not in __all__:
        raise AttributeError(f"module 'statekit.audit' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"statekit.audit.{_HOMES.get(name, 'model')}"), name)
    return value
