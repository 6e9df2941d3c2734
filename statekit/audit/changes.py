"""What has changed since a commit: only findings that a change touches.

Compared is the working tree, untracked files included, with the commit at which this branch left the one named: what
others did there meanwhile is not ours. Git is asked in a way that runs nothing a repository's configuration names.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from statekit.audit.model import Finding
from statekit.errors import UsageError

__all__ = ["Changed", "ChangesUnknown", "changed_since", "touched"]

HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
ESCAPED = re.compile(rb"\\([0-7]{3}|.)")
LETTERS = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}

Changed = Mapping[str, list[range] | None]
"""Changed lines by path; None: all of the file is new."""


class ChangesUnknown(UsageError):
    """What has changed cannot be told: no repository, no such commit, no git."""


def changed_since(root: Path, ref: str) -> Changed:
    """Lines changed below a folder since it parted from `ref`.

    Raises:
        ChangesUnknown: `root` is in no repository, or `ref` is no commit of it.
    """
    _git(root, "rev-parse", "--show-toplevel", cure=f"{root} is in no git repository; --diff needs one")
    if ref.startswith("-"):
        raise ChangesUnknown(f"--diff {ref}: no commit is called that")
    unknown = (
        f"--diff {ref}: git knows no such commit; fetch it first (in CI: a checkout with its whole history)"
    )
    commit = (
        _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", cure=unknown).decode().strip()
    )
    parted = _try_git(root, "merge-base", commit, "HEAD")
    base = parted.decode().strip() if parted else commit
    diff = _git(root, *_PLAIN, base, "--", ".", cure=f"--diff {ref}: git cannot compare")
    changed: dict[str, list[range] | None] = dict(_hunks(diff))
    fresh = _git(root, "ls-files", "-z", "--others", "--exclude-standard", cure="git cannot list files")
    changed.update(dict.fromkeys(_text(name) for name in fresh.split(b"\0") if name))
    return changed


_PLAIN = (
    "diff", "-U0", "-M", "--relative", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/",
    "--ignore-submodules",
)  # fmt: skip


def _git(root: Path, *arguments: str, cure: str) -> bytes:
    found = _try_git(root, *arguments)
    if found is None:
        raise ChangesUnknown(cure)
    return found


def _try_git(root: Path, *arguments: str) -> bytes | None:
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-C", str(root), *arguments]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, check=False, env=environment)  # noqa: S603
    except FileNotFoundError as error:
        raise ChangesUnknown("--diff needs git, which is not installed") from error
    return done.stdout if done.returncode == 0 else None


def _hunks(diff: bytes) -> dict[str, list[range]]:
    """The new side's lines of each hunk; what stands inside a hunk is skipped by its count, whatever it looks like."""
    found: dict[str, list[range]] = defaultdict(list)
    path = ""
    lines = iter(diff.split(b"\n"))
    for line in lines:
        if line.startswith(b"+++ "):
            path = _path(line[4:])
        elif hunk := HUNK.match(line):
            removed, start, added = (1 if one is None else int(one) for one in hunk.groups())
            if added and path:
                found[path].append(range(start, start + added))
            _skip(lines, removed + added)
    return found


def _skip(lines: Iterator[bytes], count: int) -> None:
    for _ in range(count):
        next(lines, None)


def _path(spelt: bytes) -> str:
    """The path of a ``+++`` line: behind ``b/``, in quotes where it has odd characters; '' where the file is gone."""
    name = spelt.rstrip(b"\t")
    if name.startswith(b'"'):
        name = ESCAPED.sub(_unescaped, name[1:-1])
    return _text(name[2:]) if name.startswith(b"b/") else ""


def _unescaped(match: re.Match[bytes]) -> bytes:
    said = match[1]
    return bytes([int(said, 8)]) if len(said) == 3 else LETTERS.get(said, said)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def touched(findings: Iterable[Finding], changed: Changed) -> list[Finding]:
    """Findings whose binding, or one of whose writes, is in a changed line."""
    return [one for one in findings if any(_is_in(changed, path, line) for path, line in _places(one))]


def _places(finding: Finding) -> Iterator[tuple[str, int]]:
    yield finding.path, finding.line
    for site in finding.writes:
        yield site.path, site.line
    for part in finding.parts:
        yield from _places(part)


def _is_in(changed: Changed, path: str, line: int) -> bool:
    if path not in changed:
        return False
    lines = changed[path]
    return lines is None or any(line in one for one in lines)
