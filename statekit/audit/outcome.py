"""What an analysis says before any setting or comment is asked: reading, judging, and carrying it to the cache."""

from __future__ import annotations

import marshal
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statekit.audit.cache import Cache
from statekit.audit.config import Config, ConfigInvalid
from statekit.audit.facts import FileFacts, frozen, thawed
from statekit.audit.files import Source
from statekit.audit.meanwhile import meanwhile
from statekit.audit.model import Category, Confidence, Finding, Severity, Site
from statekit.audit.suppress import Comment, comments_in, remarks_in

if TYPE_CHECKING:
    from statekit.audit.engine import Analysis
    from statekit.audit.score.model import Score

__all__ = ["Outcome", "analysed", "facts_of"]

MANY = 500
"""Files from which on it pays to read deployment files on another processor."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All findings of some content, whatever their confidence, and all else a report is made of."""

    findings: tuple[Finding, ...]
    comments: Mapping[str, Sequence[Comment]]
    unparsed: tuple[tuple[str, str], ...]
    files: int
    lines: int
    notes: tuple[str, ...] = ()
    score: Score | None = None

    def record(self) -> Any:
        """The same in bare tuples, for `marshal`."""
        return (
            [_bare(one) for one in self.findings],
            {path: [_bare(one) for one in several] for path, several in self.comments.items()},
            self.unparsed,
            self.files,
            self.lines,
            self.notes,
            _recorded(self.score),
        )

    @classmethod
    def recalled(cls, row: Any) -> Outcome | None:
        """An outcome from its record; None from anything else."""
        if row is None:
            return None
        try:
            findings, comments, unparsed, files, lines, notes, score = row
            return cls(
                tuple(_finding(one) for one in findings),
                {path: [Comment(*one) for one in several] for path, several in comments.items()},
                unparsed,
                files,
                lines,
                notes,
                _score(score),
            )
        except (TypeError, ValueError):
            return None


def _bare(thing: Any) -> Any:
    if isinstance(thing, tuple | list):
        return tuple(map(_bare, thing))
    if isinstance(thing, dict):
        return {_bare(key): _bare(value) for key, value in thing.items()}
    if isinstance(thing, str):
        return str(thing)  # words of an enumeration too
    if hasattr(thing, "__dataclass_fields__"):
        return tuple(_bare(getattr(thing, one.name)) for one in fields(thing))
    return thing


def _finding(row: tuple[Any, ...]) -> Finding:
    rule, category, confidence, severity, path, line, name, qualified, writes, *rest, parts = row
    return Finding(
        rule,
        Category(category),
        Confidence(confidence),
        Severity(severity),
        path,
        line,
        name,
        qualified,
        tuple(Site(*one) for one in writes),
        *(*rest, tuple(map(_finding, parts))),
    )


def _recorded(score: Score | None) -> Any:
    if score is None:
        return None
    from statekit.audit.score import as_json  # noqa: PLC0415 - few ask for a score

    return _bare(as_json(score))


def _score(record: Any) -> Score | None:
    if record is None:
        return None
    from statekit.audit.score import recalled  # noqa: PLC0415 - few ask for a score

    return recalled(record)


# -- making one ------------------------------------------------------------------------------------------


def analysed(
    root: Path,
    sources: Sequence[Source],
    texts: Sequence[Source],
    config: Config,
    cache: Cache,
    *,
    score: bool,
) -> Outcome:
    """Read what was not read before, and judge all of it together."""
    from statekit.audit.advice import finding_of  # noqa: PLC0415 - only where something is new
    from statekit.audit.engine import Analysis  # noqa: PLC0415 - as above
    from statekit.audit.portions import Portions, Shared, found_in  # noqa: PLC0415 - as above

    files, keep = facts_of(sources, cache)
    good = [one for one in files if not one.error]
    catalogue = config.catalogue()
    with (
        closing(Portions()) as portions,
        meanwhile(
            lambda: found_in(portions, good, catalogue),
            lambda: _deployed(root, files, texts),
            then=keep,
            wanted=len(files) > MANY,
        ) as answer,
    ):
        analysis = Analysis(good, catalogue, Shared(portions, answer))
        found = [finding_of(one, analysis) for one in analysis.verdicts if one.category is not None]
        told = answer()
    return Outcome(
        tuple(_beside(found, told)),
        _comments(sources, {one.path for one in files if one.comments}) | _remarks(texts),
        _unparsed(sources, files),
        len(files),
        sum(one.lines for one in sources),
        (),
        _scored(analysis, config) if score else None,
    )


def _deployed(root: Path, files: Sequence[FileFacts], texts: Sequence[Source]) -> Any:
    """What deployment files say, in bare tuples: findings, and how many processes there are."""
    from statekit.audit.deploy.entry import deployment  # noqa: PLC0415 - only where something is new

    said = deployment(root, files, [one.found for one in texts if not one.error])
    return [_bare(one) for one in said.findings], [_bare(one) for one in said.facts.said]


def _beside(found: Sequence[Finding], told: Any) -> list[Finding]:
    """The findings of the analysis and those of deployment files; what these say weighs the others."""
    from statekit.audit.deploy.joined import beside  # noqa: PLC0415 - only where something is new
    from statekit.audit.deploy.running import Running, Said  # noqa: PLC0415 - as above

    findings, said = told
    running = Running(tuple(Said(*one) for one in said))
    known = (running.why,) if running.why else ()

    def weighed(one: Finding) -> Finding:
        severity = running.weigh(one.severity) if running.single else one.severity
        return replace(
            one,
            severity=severity,
            evidence=(*one.evidence, *known),
            parts=tuple(map(weighed, one.parts)),
        )

    return beside(map(weighed, found), [_finding(one) for one in findings])


def _scored(analysis: Analysis, config: Config) -> Score:
    from statekit.audit.score import BadSetting, score  # noqa: PLC0415 - few ask for a score

    try:
        return score(analysis, config.score)
    except BadSetting as error:
        raise ConfigInvalid(f"{config.source}: {error}") from error


def _comments(sources: Sequence[Source], paths: set[str]) -> dict[str, list[Comment]]:
    """What comments say in files that seem to have some: few enough to look at them again."""
    found = {}
    for one in sources:
        if one.found.path in paths:
            with suppress(OSError):
                found[one.found.path] = comments_in(Path(one.found.real).read_bytes())
    return found


def _remarks(texts: Sequence[Source]) -> dict[str, list[Comment]]:
    """The same of deployment files."""
    found = {}
    for one in texts:
        with suppress(OSError):
            data = Path(one.found.real).read_bytes()
            if b"statekit:" in data or b"per-process-ok" in data:
                found[one.found.path] = remarks_in(data.decode("utf-8", "replace"))
    return found


def _unparsed(sources: Sequence[Source], files: Sequence[FileFacts]) -> tuple[tuple[str, str], ...]:
    unread = [(one.found.path, one.error) for one in sources if one.error]
    return tuple(sorted(unread + [(one.path, one.error) for one in files if one.error]))


def facts_of(sources: Sequence[Source], cache: Cache) -> tuple[list[FileFacts], Callable[[], None]]:
    """The facts of all files that can be read, in the order of their paths, and what keeps them for the next time."""
    known = cache.facts()
    read: list[FileFacts] = []
    new: list[Source] = []
    for one in sources:
        kept = known.get(one.digest) if not one.error else None
        if kept is not None:
            read.append(thawed(marshal.loads(kept))._replace(path=one.found.path))  # noqa: S302 - see cache.py
        elif not one.error:
            new.append(one)
    fresh = _read(new) if new else []
    read += [facts for _, facts, _ in fresh]
    present = {one.digest: known[one.digest] for one in sources if one.digest in known}
    return sorted(read, key=lambda facts: facts.path), lambda: _keep(present, fresh, cache)


def _read(new: Sequence[Source]) -> list[tuple[bytes, FileFacts, bytes]]:
    from statekit.audit.parallel import read_files  # noqa: PLC0415 - a second run reads nothing

    return list(read_files(new))


def _keep(
    known: Mapping[bytes, bytes], fresh: Sequence[tuple[bytes, FileFacts, bytes]], cache: Cache
) -> None:
    if fresh and not cache.off:
        cache.keep_facts(
            {**known, **{digest: kept or marshal.dumps(frozen(facts)) for digest, facts, kept in fresh}}
        )
