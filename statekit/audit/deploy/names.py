"""Which files say how an app is deployed, by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LARGEST", "discovered", "kind_of", "offstage", "wanted"]

LARGEST = 400_000
"""Bytes: no deployment file is larger, but a generated one may be."""

SKIPPED = {
    "node_modules",
    "site-packages",
    "__pycache__",
    "venv",
    ".venv",
    "env",
    "vendor",
    "third_party",
    "dist",
}
SHOWN = {".github", ".platform", ".ebextensions", ".do", ".deploy", ".docker", ".k8s", ".kube"}
OFF = re.compile(
    r"(^|[._/-])(tests?|testing|dev|devel|develop|development|devproject|local|debug|ci|e2e|sandbox|override)([._/-]|$)",
    re.IGNORECASE,
)
KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("gunicorn", r"(^|/)([\w.-]*gunicorn[\w.-]*|guniconf)\.(py|conf)$"),
        ("procfile", r"(^|/)Procfile(\.[\w-]+)?$"),
        ("docker", r"(^|/)((\w[\w.-]*\.)?Dockerfile|Containerfile|Dockerfile\.[\w.-]+)$"),
        ("compose", r"(^|/)(docker-)?(compose|stack)[\w.-]*\.ya?ml$"),
        ("toml", r"(^|/)(fly[\w.-]*|railway|traefik[\w.-]*|Caddy)\.toml$"),
        ("uwsgi", r"(^|/)[\w.-]*(uwsgi|emperor)[\w.-]*\.ini$"),
        (
            "supervisor",
            r"(^|/)[\w.-]*supervisord?[\w.-]*\.(conf|ini)$|supervisor/(conf\.d/)?[\w.-]+\.(conf|ini)$",
        ),
        ("systemd", r"(^|/)[\w.@-]+\.service$"),
        ("haproxy", r"(^|/)[\w.-]*haproxy[\w.-]*\.(cfg|conf)$"),
        ("apache", r"(^|/)[\w.-]*(apache|httpd)[\w.-]*\.conf$"),
        ("nginx", r"(^|/)[\w.-]*nginx[\w.-]*$|(^|/)(nginx|conf\.d|sites-(available|enabled))/[\w.-]+$"),
        ("caddy", r"(^|/)Caddyfile$"),
        ("terraform", r"\.tf$"),
        ("shell", r"(^|/)[\w.-]*(entrypoint|start|run|boot|serve|launch)[\w.-]*\.sh$"),
        ("yaml", r"\.ya?ml$"),
    )
)
"""The first that fits counts."""
OTHERS = frozenset(
    [
        "png",
        "jpg",
        "jpeg",
        "svg",
        "gif",
        "ico",
        "woff",
        "woff2",
        "ttf",
        "md",
        "rst",
        "html",
        "htm",
        "js",
        "ts",
        "tsx",
        "jsx",
        "css",
        "scss",
        "less",
        "map",
        "pyc",
        "pyd",
        "so",
        "j2",
        "jinja",
        "jinja2",
        "po",
        "pot",
        "mo",
        "json",
        "txt",
        "csv",
        "lock",
        "sql",
        "xml",
        "pyi",
        "rb",
        "go",
        "rs",
    ]
)
"""Endings of what cannot be one: most files of a project, asked about first."""


def kind_of(path: str) -> str:
    """What kind of deployment file a path is, '' if it is none."""
    ending = path.rpartition(".")[2].lower()
    if ending in OTHERS or (ending == "py" and "guni" not in path):
        return ""
    return next((kind for kind, pattern in KINDS if pattern.search(path)), "")


def wanted(path: str) -> bool:
    """Whether `deployment` wants to read this file."""
    return bool(kind_of(path))


def offstage(path: str) -> bool:
    """Whether a path is that of a test, of a developer's own machine, or of continuous integration."""
    return bool(OFF.search(path)) or path.startswith(".github/")


def discovered(root: Path) -> Iterator[str]:
    """Every deployment file below `root`, as relative POSIX paths, in order."""
    base = root if root.is_dir() else root.parent
    for folder, below, files in os.walk(base):
        below[:] = sorted(name for name in below if name not in SKIPPED and (name[0] != "." or name in SHOWN))
        inside = Path(folder).relative_to(base).as_posix()
        prefix = "" if inside == "." else inside + "/"
        yield from (prefix + name for name in sorted(files) if wanted(prefix + name))
