"""Names of a project as they may be repeated: in a sentence, as an expression, as an identifier."""

from __future__ import annotations

import ast
import builtins
import keyword
import re

__all__ = ["expression", "plain", "shown"]

LONGEST = 60
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]+")
"""Controls, line ends, and marks that reorder or hide text."""
SIMPLE = (ast.Name, ast.Attribute, ast.Constant, ast.Subscript, ast.Load)


def shown(text: str) -> str:
    """Text of the audited code, fit for one line of a sentence between backticks."""
    flat = UNSEEN.sub(" ", text).replace("`", "'").strip()
    return flat if len(flat) <= LONGEST else flat[: LONGEST - 1] + "…"


def expression(chain: str) -> str:
    """A chain as Python, ``...`` for what it leaves out; '' if it cannot be spelt."""
    spelt = chain.rpartition("::")[2]
    if not spelt or len(spelt) > LONGEST or UNSEEN.search(spelt):
        return ""
    spelt = spelt.replace("[]", "[...]").replace("()", "(...)")
    try:
        tree = ast.parse(spelt, mode="eval")
    except (SyntaxError, ValueError):
        return ""
    return spelt if all(map(_simple, ast.walk(tree.body))) else ""


def _simple(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return [ast.unparse(one) for one in (*node.args, *node.keywords)] == ["..."]
    return isinstance(node, SIMPLE)


def plain(name: str) -> str:
    """An identifier near to a name; ``state`` if nothing of it is left."""
    bare = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    if not bare or bare[0].isdigit():
        bare = f"state_{bare}".rstrip("_")
    taken = keyword.iskeyword(bare) or keyword.issoftkeyword(bare) or hasattr(builtins, bare)
    return f"{bare}_" if taken else bare
