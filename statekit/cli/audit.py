"""``statekit audit``: find the state in the processes of a project, say what breaks, and name what replaces it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from statekit.audit import Confidence, Config, Finding, Report, Severity, audit, shown
from statekit.audit.baseline import against, load, save
from statekit.audit.config import FAIL_ON, choice, nearest, selected
from statekit.audit.output import FORMATS, render
from statekit.audit.run import judged_rules
from statekit.errors import UsageError

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

SUFFIXES = {
    ".txt": "text", ".json": "json", ".sarif": "sarif", ".html": "html", ".htm": "html", ".md": "markdown",
    ".markdown": "markdown", ".svg": "svg",
}  # fmt: skip
DOWN = tuple(Severity)
"""From the worst to the mildest."""


@app.command("audit")
def run(  # noqa: PLR0913, PLR0917 - the options of a command are the arguments of its function
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="Folders or files; here by default.")
    ] = None,
    form: Annotated[str | None, typer.Option("--format", "-f", help=" | ".join(FORMATS))] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="Write to a file; the format is its suffix unless --format says it. Repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    confidence: Annotated[
        str | None, typer.Option(help="high | medium | low: the least to show; in text high, else medium.")
    ] = None,
    select: Annotated[
        list[str] | None, typer.Option(help="Only these: SK101, SK1xx, rate_limiter; with commas.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Not these; besides those of pyproject.toml.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Findings listed in this file are known and do not count.")
    ] = None,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Write that file from what there is now.")
    ] = False,
    diff: Annotated[
        str | None, typer.Option(metavar="REF", help="Only what lines changed since this commit touch.")
    ] = None,
    score: Annotated[bool, typer.Option("--score", help="Which package to move out first, and why.")] = False,
    fail_on: Annotated[
        str | None, typer.Option(help=" | ".join(FAIL_ON) + ": what makes the exit code 1.")
    ] = None,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="The same as --fail-on never.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 2 if a file could not be read.")
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Read everything anew, keep nothing.")] = False,
    explain: Annotated[
        str | None, typer.Option(metavar="RULE", help="Explain a rule, or list them: all.")
    ] = None,
) -> None:
    """Find the state a project keeps in its processes, say what breaks with two of them, and name what replaces it.

    Reads Python and deployment files; imports and runs nothing. Exit codes: 0 nothing found, 1 something found,
    2 bad usage.
    """
    if explain is not None:
        _explain(explain)
        return
    printed, files = _outputs("json" if as_json else form, out or [], score=score)
    config = _config(paths, confidence, select, ignore, "never" if exit_zero else fail_on)
    report = audit(paths or ["."], config, cache=not no_cache, score=score)
    report = _as_known(report, config, baseline, diff, update=update_baseline)
    for form_, file in files:
        _write(file, _rendered(report, config, form_))
    if printed:
        text = _rendered(report, config, printed, terminal=True)
        typer.echo(text, nl=False, color=True)  # it has colours only where they are wanted
    if strict and report.unparsed:
        raise typer.Exit(2)
    if not update_baseline and _fails(report, config, printed or files[0][0]):
        raise typer.Exit(1)


def _explain(rule: str) -> None:
    from statekit.audit.rules import explain  # noqa: PLC0415 - words that only this needs

    try:
        typer.echo(explain(rule))
    except ValueError as error:
        raise UsageError(f"--explain: {error}") from error


# -- options -------------------------------------------------------------------------------------------------


def _outputs(form: str | None, files: Sequence[Path], *, score: bool) -> tuple[str, list[tuple[str, Path]]]:
    """What to print ('' for nothing), and what to write where."""
    if form is not None:
        choice("--format", form, FORMATS)
    if form is not None and len(files) == 1:
        return "", [(form, files[0])]
    written = [(_by_suffix(one), one) for one in files]
    if not score and any(one == "svg" for one, _ in written):
        raise UsageError("the picture of who shares what comes with --score")
    return form or "text", written


def _by_suffix(file: Path) -> str:
    found = SUFFIXES.get(file.suffix.lower())
    if found is None:
        raise UsageError(
            f"-o {file}: no format has this suffix; give one of {', '.join(SUFFIXES)}, or --format"
        )
    return found


def _config(
    paths: list[str] | None,
    confidence: str | None,
    select: list[str] | None,
    ignore: list[str] | None,
    fail_on: str | None,
) -> Config:
    """What pyproject.toml says, and over it what the command line does."""
    config = nearest((paths or ["."])[0])
    if confidence is not None:
        config = replace(config, confidence=Confidence(choice("--confidence", confidence, Confidence)))
    if select is not None:
        config = replace(config, select=_rules("--select", select))
    if ignore is not None:
        config = replace(config, ignore=(*config.ignore, *_rules("--ignore", ignore)))
    if fail_on is not None:
        config = replace(config, fail_on=choice("--fail-on", fail_on, FAIL_ON))
    return config


def _rules(option: str, given: list[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for one in given for name in one.split(",") if name.strip())
    selected(option, names)
    return names


# -- what is known, what is new ------------------------------------------------------------------------------


def _as_known(
    report: Report, config: Config, baseline: Path | None, diff: str | None, *, update: bool
) -> Report:
    if update:
        return _updated(report, config, baseline, diff)
    if baseline is not None:
        found, stale = against(report.findings, load(baseline), judged_rules(config))
        report = replace(report, findings=tuple(found), notes=(*report.notes, *([] if diff else stale)))
    return _since(report, diff) if diff is not None else report


def _updated(report: Report, config: Config, baseline: Path | None, diff: str | None) -> Report:
    if baseline is None:
        raise UsageError("--update-baseline needs --baseline FILE, the file to write")
    if diff is not None:
        raise UsageError("--update-baseline knows everything, --diff only what changed; give one of them")
    judged = judged_rules(config)
    before = load(baseline).values() if judged is not None and baseline.exists() else ()
    least = Confidence.LOW if config.confidence is Confidence.LOW else Confidence.MEDIUM
    known = shown(report, least).findings
    count = save(baseline, known, [one for one in before if judged is not None and one["rule"] not in judged])
    sys.stderr.write(f"statekit: {baseline} holds {count} known findings\n")
    found, _ = against(report.findings, load(baseline))
    return replace(report, findings=tuple(found))


def _since(report: Report, ref: str) -> Report:
    from statekit.audit.changes import changed_since, touched  # noqa: PLC0415 - starts git

    kept = touched(report.findings, changed_since(Path(report.root), ref))
    return replace(report, findings=tuple(kept), notes=())


# -- output --------------------------------------------------------------------------------------------------


def _rendered(report: Report, config: Config, form: str, *, terminal: bool = False) -> str:
    if form == "svg":
        return _picture(report)
    return render(shown(report, _least(config, form)), form, terminal=terminal)


def _picture(report: Report) -> str:
    from statekit.audit.score import picture  # noqa: PLC0415 - few ask for it

    return picture(report.score) if report.score else ""


def _least(config: Config, form: str) -> Confidence:
    return config.confidence or (Confidence.HIGH if form == "text" else Confidence.MEDIUM)


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error
    sys.stderr.write(f"statekit: wrote {file}\n")


def _fails(report: Report, config: Config, form: str) -> bool:
    """Whether there is something to fail on: of what is shown, or of a confidence that was named."""
    wanted = config.fail_on
    if wanted == "never":
        return False
    if wanted in tuple(Confidence):
        return any(one.status == "open" for one in shown(report, Confidence(wanted)).findings)
    seen = shown(report, _least(config, form)).findings
    return any(one.status == "open" and (wanted == "any" or _at_least(one, wanted)) for one in seen)


def _at_least(finding: Finding, severity: str) -> bool:
    return DOWN.index(finding.severity) <= DOWN.index(Severity(severity))
