"""Projects in a few lines: files written down, the audit's deployment rules run over them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from statekit.audit.deploy.entry import Deployment, deployment
from statekit.audit.model import Finding
from statekit.audit.reading import read


def deployed(root: Path, files: dict[str, str]) -> Deployment:
    """What the rules say about a project made of these files."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    facts = [read(path, (root / path).read_bytes()) for path in sorted(files) if path.endswith(".py")]
    return deployment(root, facts)


def told(root: Path, files: dict[str, str]) -> list[str]:
    """Findings as ``rule path:line name confidence``."""
    return [spelt(one) for one in deployed(root, files).findings]


def spelt(one: Finding) -> str:
    return f"{one.rule} {one.path}:{one.line} {one.name} {one.confidence.value}"
