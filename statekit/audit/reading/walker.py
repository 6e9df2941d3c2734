"""One walk over a module's syntax. What is seen is noted in the scope it is seen in; judging comes later."""

from __future__ import annotations

import ast
import re
from typing import ClassVar

from statekit.audit.facts import Class
from statekit.audit.reading.assignments import Assignments
from statekit.audit.reading.chains import each_of, given, root_of, spell
from statekit.audit.reading.looks import asked, defaults, names_in, subscripted, unparsed
from statekit.audit.reading.scopes import Scope
from statekit.audit.reading.values import value_of

__all__ = ["Walker"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
SQL = re.compile(
    r"\s*(select\b.+?\bfrom\b|insert (or|into)\b|update\s+\S+\s+set\b|delete from\b)",
    re.IGNORECASE | re.DOTALL,
)
KEY_ERRORS = {"KeyError", "LookupError", "AttributeError", "IndexError"}


class Walker(Assignments):
    """Reads one module into functions, classes and bindings."""

    VISITS: ClassVar[dict[type, str]] = {
        ast.Import: "_import", ast.ImportFrom: "_import_from", ast.Global: "_global", ast.Nonlocal: "_nonlocal",
        ast.Name: "_name", ast.Attribute: "_load", ast.Subscript: "_load", ast.Call: "_call",
        ast.Assign: "_assign", ast.AnnAssign: "_annotated", ast.AugAssign: "_augmented", ast.Delete: "_delete",
        ast.NamedExpr: "_walrus", ast.If: "_if", ast.IfExp: "_if_expression", ast.While: "_while",
        ast.For: "_for", ast.AsyncFor: "_for", ast.comprehension: "_comprehension", ast.ListComp: "_comprehended",
        ast.SetComp: "_comprehended", ast.GeneratorExp: "_comprehended", ast.DictComp: "_comprehended",
        ast.With: "_with", ast.AsyncWith: "_with", ast.Try: "_try", ast.TryStar: "_try",
        ast.ExceptHandler: "_except", ast.Return: "_return", ast.Yield: "_yield", ast.YieldFrom: "_yield",
        ast.Constant: "_constant", ast.Await: "_await", ast.BinOp: "_operation", ast.FunctionDef: "_function", ast.AsyncFunctionDef: "_function",
        ast.Expr: "_statement", ast.Lambda: "_lambda", ast.ClassDef: "_class_body",
    }  # fmt: skip

    # -- conditions, loops, guards ----------------------------------------------------------------------------

    def _if(self, node: ast.If) -> None:
        said = unparsed(node.test) if self._scope.is_module else ""
        if "__name__" in said and self._scope is self.module and not self._class:
            self._main(node)
            return
        if "TYPE_CHECKING" in said:
            self._each(one for one in node.body if isinstance(one, ast.Import | ast.ImportFrom))
            self._each(node.orelse)
            return
        self._test(node.test)
        before, self._under = self._under, said or self._under
        self._each(node.body)
        self._under = f"not ({said})" if said else before
        self._each(node.orelse)
        self._under = before

    def _main(self, node: ast.If) -> None:
        self._scope, self._under = self.main, "__main__"
        self.main.line = node.lineno
        self._each(node.body)
        self._scope, self._under = self.module, ""

    def _test(self, node: ast.AST) -> None:
        self._scope.tests.update(asked(node))
        self._one(node)

    def _if_expression(self, node: ast.IfExp) -> None:
        self._test(node.test)
        self._each((node.body, node.orelse))

    def _operation(self, node: ast.BinOp) -> None:
        """A long sum leans to the left: walked down, not recursed into."""
        left: ast.AST = node
        while type(left) is ast.BinOp:
            self._one(left.right)
            left = left.left
        self._one(left)

    def _while(self, node: ast.While) -> None:
        if type(node.test) is ast.Constant:
            self._scope.marks.add("forever")
        self._test(node.test)
        self._each(node.body)
        self._each(node.orelse)

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        self._loop_variable(node.target, node.iter)
        self._one(node.iter)
        self._each(node.body)
        self._each(node.orelse)

    def _comprehension(self, node: ast.comprehension) -> None:
        self._loop_variable(node.target, node.iter)
        self._one(node.iter)
        self._each(node.ifs)

    def _comprehended(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self._each(node.generators)
        self._each((node.key, node.value) if type(node) is ast.DictComp else (node.elt,))  # type: ignore[union-attr]

    def _loop_variable(self, target: ast.AST, over: ast.AST) -> None:
        chain = each_of(over)
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        for one in names:
            if type(one) is ast.Name:
                if not self._scope.is_module:
                    self._scope.locals.add(one.id)
                    if chain and root_of(chain) != one.id and one is names[-1]:
                        self._scope.aliases.setdefault(one.id, chain)
            else:
                self._bind(one, None, getattr(one, "lineno", 0))

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            chain = given(item.context_expr)
            if chain:
                self._scope.guards.append((chain, node.lineno, node.end_lineno or node.lineno))
            if type(item.optional_vars) is ast.Name and not self._scope.is_module:
                self._set_local(self._scope, item.optional_vars.id, item.context_expr, node.lineno)
            self._one(item.context_expr)
        self._each(node.body)

    def _try(self, node: ast.Try) -> None:
        caught = {name for handler in node.handlers for name in names_in(handler.type)}
        if caught & KEY_ERRORS:
            for one in node.body:
                self._scope.tests.update(subscripted(one))
        self._inside(node)

    def _except(self, node: ast.ExceptHandler) -> None:
        if node.name and not self._scope.is_module:
            self._scope.locals.add(node.name)
        self._each(node.body)

    def _return(self, node: ast.Return) -> None:
        if node.value is not None:
            self._scope.returns.append(node.value)
            self._one(node.value)

    def _yield(self, node: ast.Yield | ast.YieldFrom) -> None:
        self._scope.marks.add("yield")
        self._one(node.value)

    def _await(self, node: ast.Await) -> None:
        if type(node.value) is ast.Name:
            self._scope.marks.add("waits")
        self._one(node.value)

    def _constant(self, node: ast.Constant) -> None:
        value = node.value
        if type(value) is str:
            if " " in value and 5 < len(value) < 4000:  # most are names and keys
                self._words(value)
        elif type(value) is int and value == 429:
            self._scope.marks.add("429")

    def _words(self, value: str) -> None:
        head = value[:40].lower()
        if "too many" in head or "rate limit" in head or "try again" in head:
            self._scope.marks.add("429")
        elif SQL.match(value):
            self._scope.marks.add("sql")

    # -- functions and classes -----------------------------------------------------------------------------

    def _function(self, node: FunctionNode) -> None:
        before, args = self._scope, node.args
        self._each(node.decorator_list)
        self._each(args.defaults)
        self._each(args.kw_defaults)  # none where there is none
        self._each([one.annotation for one in args.args if type(one.annotation) is ast.Subscript])
        if not before.is_module:
            before.locals.add(node.name)
            before.inner.add(node.name)
        outer = self._class or ("" if before.is_module else before.name)
        scope = Scope(f"{outer}.{node.name}" if outer else node.name, self._class or before.within, before)
        scope.line, scope.end = node.lineno, node.end_lineno or node.lineno
        scope.is_async = type(node) is ast.AsyncFunctionDef
        if node.decorator_list:
            scope.decorators = tuple([value_of(one, 2) for one in node.decorator_list])
        self._parameters(scope, args)
        self.scopes.append(scope)
        before_class, self._class, self._scope = self._class, "", scope
        before_under, self._under = self._under, ""
        self._each(node.body)
        self._class, self._scope, self._under = before_class, before, before_under

    def _parameters(self, scope: Scope, args: ast.arguments) -> None:
        everyone = [*args.posonlyargs, *args.args, *args.kwonlyargs]
        stars = [one for one in (args.vararg, args.kwarg) if one is not None]
        for one in (*everyone, *stars) if stars else everyone:
            hint = one.annotation
            scope.params[one.arg] = (spell(hint) or unparsed(hint)) if hint is not None else ""
        scope.locals.update(scope.params)
        static = scope.decorators and any(one.text == "staticmethod" for one in scope.decorators)
        if self._class and everyone and not static:
            scope.me = everyone[0].arg
            del scope.params[scope.me]
        if args.defaults or args.kw_defaults:
            for name, default in defaults(args):
                if type(default) is ast.Call and spell(default.func):  # FastAPI: Depends(get_db)
                    scope.params[name] = scope.params[name] or f"{spell(default.func)}()"

    def _lambda(self, node: ast.Lambda) -> None:
        if not self._scope.is_module:
            self._scope.locals.update(one.arg for one in node.args.args)
        self._one(node.body)

    def _class_body(self, node: ast.ClassDef) -> None:
        before = self._scope
        if not before.is_module:
            before.locals.add(node.name)
        self._each(node.decorator_list)
        outer = self._class or ("" if before.is_module else before.name)
        name = f"{outer}.{node.name}" if outer else node.name
        bases = tuple([spell(one) or "" for one in node.bases])
        decorators = tuple([value_of(one, 2) for one in node.decorator_list])
        keywords = tuple([(one.arg or "**", value_of(one.value, 1)) for one in node.keywords])
        self.classes.append(Class(name, node.lineno, bases, decorators, keywords))
        self._each(node.bases)
        before_class, self._class = self._class, name
        self._each(node.body)
        self._class = before_class
