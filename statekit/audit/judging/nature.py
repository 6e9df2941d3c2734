"""Step 1: what cannot be state that workers should share, by what it is."""

from __future__ import annotations

from statekit.audit.judging.case import Case
from statekit.audit.natures import Nature
from statekit.audit.states import PLAIN

__all__ = ["cleared_by_nature"]

OF_MODULES = {
    "__all__",
    "__slots__",
    "urlpatterns",
    "__version__",
    "logger",
    "log",
    "__path__",
    "__doc__",
    "__name__",
}


def cleared_by_nature(case: Case) -> str:
    """Why it is none, or ''."""
    natures = case.natures
    if Nature.LOCAL in natures:
        return "context local"
    if Nature.METRIC in natures:
        return "metrics of the process"
    still = not any(c.at_run_time and c.write.op in PLAIN for c in case.state.changes)
    if Nature.HARMLESS in natures and natures <= {Nature.HARMLESS, Nature.NONE} and still:
        return "harmless"
    if case.state.name in OF_MODULES:
        return "constant"
    return "model default" if case.state.shape == "class_attribute" and _describes(case) else ""


def _describes(case: Case) -> bool:
    """Whether the class body says of this what each object has."""
    owner = case.owner
    if owner is None or any(
        c.write.target.startswith(("cls.", owner.name + ".")) for c in case.state.changes
    ):
        return False
    inside = any(
        c.at_run_time and c.write.op != "=" and c.write.target.startswith("self.") for c in case.state.changes
    )
    literal = all(value.kind in {"dict", "list", "set"} for _, value in case.state.values)
    if inside and literal and case.state.values and not case.state.annotation:
        return False  # no field: one container for all objects of the class
    return case.tools.states.describes(owner)
