"""The check that a source uses nothing that a foreign library lacks.

It follows types through the source: of `trt.X` and `core.X`, of parameters and fields with such annotations, and of
what their methods return. Every attribute, argument count, keyword and enum member is looked up. A branch such as
`if VERSION >= (10, 0):` is walked for the versions that take it. A name that only the foreign library has, on something
whose type is not known, is an error too: the source must annotate it.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from helpers.foreign_api import Api, Signature


@dataclass
class LocalClass:
    """A class of the sources under test: what its fields and methods are, as annotations."""

    bases: list[ast.expr] = field(default_factory=list)
    fields: dict[str, ast.expr] = field(default_factory=dict)
    returns: dict[str, ast.expr | None] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    """Fields without an annotation."""


def collect_classes(tree: ast.Module) -> dict[str, LocalClass]:
    """The classes of a source; under its own name, each function."""
    found: dict[str, LocalClass] = {
        node.name: LocalClass(returns={node.name: node.returns})
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }
    for node in [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]:
        local = found[node.name] = LocalClass(bases=node.bases)
        for part in ast.walk(node):
            if isinstance(part, ast.AnnAssign):
                target = part.target
                name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
                local.fields[name] = part.annotation
            elif isinstance(part, ast.Assign):
                local.others |= {target.attr for target in part.targets if isinstance(target, ast.Attribute)}
            elif isinstance(part, ast.FunctionDef):
                is_property = any(isinstance(d, ast.Name) and d.id == "property" for d in part.decorator_list)
                if is_property and part.returns:
                    local.fields[part.name] = part.returns
                else:
                    local.returns[part.name] = part.returns
    return found


class Type(NamedTuple):
    """`kind` is container (`member` being the kind of what is in it), module, class, enum, function, method, instance
    (of a foreign class), local (instance of a class of the sources) or maker (that class itself)."""

    kind: str
    alias: str
    name: str = ""
    member: str = ""


class ContractChecker(ast.NodeVisitor):
    """Walks one source for one version of each library; `problems` is what it found."""

    def __init__(
        self, apis: dict[str, Api], modules: dict[str, str], sources: dict[str, LocalClass], number: tuple[int, ...]
    ) -> None:
        """
        Args:
            apis: alias -> library.
            modules: package -> alias, for `from cuda.core import Stream`.
            number: what VERSION is.
        """
        self.apis, self.modules, self.sources, self.number = apis, modules, sources, number
        self.problems: list[str] = []
        self.scopes: list[dict[str, Type]] = [{}]
        own = {name for a in apis.values() for members in a.classes.values() for name in members}
        self.guarded = own - COMMON

    def problem(self, node: ast.AST, text: str) -> None:
        self.problems.append(f"line {getattr(node, 'lineno', '?')}: {text}")

    # --- statements

    def block(self, body: list[ast.stmt]) -> bool:
        """Walk statements up to one that always leaves; returns whether there was one."""
        return any(self.statement(statement) for statement in body)

    def statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.If):
            known = self.decided(node.test)
            if known is not None:
                return self.block(node.body if known else node.orelse)
            self.of(node.test)
            left = [self.block(node.body), self.block(node.orelse)]
            return all(left)
        if isinstance(node, ast.FunctionDef):
            self.function(node)
        elif isinstance(node, ast.ClassDef):
            self.scopes.append({"self": Type("local", "", node.name)})
            self.block(node.body)
            self.scopes.pop()
        elif isinstance(node, ast.ImportFrom):
            self.imported(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname in self.apis:
                    self.scopes[-1][alias.asname] = Type("module", alias.asname)
        else:
            self.plain(node)
        return isinstance(node, ast.Return | ast.Raise | ast.Continue | ast.Break)

    def plain(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            found = self.of(node.value)
            for target in node.targets:
                self.assign(target, found)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.of(node.value)
            self.assign(node.target, self.annotation(node.annotation))
        elif isinstance(node, ast.For):
            self.assign(node.target, self.element(self.of(node.iter)))
            self.block(node.body)
        elif isinstance(node, ast.With):
            for item in node.items:
                found = self.of(item.context_expr)
                if item.optional_vars is not None:
                    self.assign(item.optional_vars, found)
            self.block(node.body)
        elif isinstance(node, ast.Try):
            for body in (node.body, *(h.body for h in node.handlers), node.orelse, node.finalbody):
                self.block(body)
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.stmt):
                    self.statement(child)
                elif isinstance(child, ast.expr):
                    self.of(child)

    def function(self, node: ast.FunctionDef) -> None:
        inherited = {k: v for k, v in self.scopes[-1].items() if k == "self"}
        scope = {**inherited}
        for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
            if argument.annotation is not None and (found := self.annotation(argument.annotation)):
                scope[argument.arg] = found
        self.scopes.append(scope)
        self.block(node.body)
        self.scopes.pop()

    def imported(self, node: ast.ImportFrom) -> None:
        library = next((a for package, a in self.modules.items() if (node.module or "").startswith(package)), None)
        for alias in node.names:
            name = alias.asname or alias.name
            if name in self.apis:
                self.scopes[0][name] = Type("module", name)
            elif library and alias.name in self.apis[library].classes:
                self.scopes[0][name] = Type("class", library, alias.name)
            elif library and alias.name in self.apis[library].functions:
                self.scopes[0][name] = Type("function", library, alias.name)
            elif library:
                self.problem(node, f"{library} has no {alias.name}")

    def assign(self, target: ast.expr, found: Type | None) -> None:
        if isinstance(target, ast.Name):
            if found is None:
                self.scopes[-1].pop(target.id, None)
            else:
                self.scopes[-1][target.id] = found
        elif isinstance(target, ast.Attribute):
            base = self.of(target.value)
            if base is not None and base.kind == "instance":
                fact = self.member(base, target.attr, target)
                if fact is not None and fact != "settable":
                    self.problem(target, f"{base.name}.{target.attr} cannot be set")
            elif base is None and target.attr in self.guarded:
                self.problem(target, f"{target.attr} is set on something of unknown type: annotate it")
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self.assign(part, None)
        else:
            self.of(target)

    # --- expressions

    def of(self, node: ast.expr) -> Type | None:
        """The type of an expression, all of it checked on the way."""
        if isinstance(node, ast.Name):
            if (found := next((s[node.id] for s in reversed(self.scopes) if node.id in s), None)) is not None:
                return found
            local = self.sources.get(node.id)
            if local is not None and node.id in local.returns:
                return Type("method", "", node.id, node.id)
            return None if local is None else Type("maker", "", node.id)
        if isinstance(node, ast.Attribute):
            return self.attribute(node)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.Subscript):
            self.of(node.slice)
            return self.element(self.of(node.value))
        if isinstance(node, ast.IfExp):
            known = self.decided(node.test)
            if known is not None:
                return self.of(node.body if known else node.orelse)
            self.of(node.test)
            return self.of(node.body) or self.of(node.orelse)
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            for value in node.values:
                if self.decided(value) is False:
                    return None
                self.of(value)
            return None
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.of(child)
            elif isinstance(child, ast.comprehension):
                for part in (child.iter, *child.ifs):
                    self.of(part)
        return None

    def attribute(self, node: ast.Attribute) -> Type | None:
        base = self.of(node.value)
        if base is None:
            if node.attr in self.guarded:
                self.problem(node, f"{node.attr} is used on something of unknown type: annotate it")
            return None
        if base.kind == "module":
            return self.global_name(base.alias, node)
        if base.kind == "enum":
            if node.attr not in self.apis[base.alias].enums[base.name]:
                self.problem(node, f"{base.name} has no {node.attr}")
            return None
        if base.kind in ("instance", "class"):
            fact = self.member(base, node.attr, node)
            return Type("method", base.alias, base.name, node.attr) if isinstance(fact, list) else None
        return self.local_attribute(base, node)

    def local_attribute(self, base: Type, node: ast.Attribute) -> Type | None:
        local = self.sources.get(base.name)
        if local is None or base.kind not in ("local", "maker"):
            return None
        if node.attr in local.fields:
            return self.annotation(local.fields[node.attr])
        if node.attr in local.returns:
            return Type("method", "", base.name, node.attr)
        if node.attr in local.others:
            return None
        for foreign in [self.of(b) for b in local.bases]:
            if foreign is not None and foreign.kind == "class":
                return self.attribute_of(Type("instance", foreign.alias, foreign.name), node)
        return None

    def attribute_of(self, base: Type, node: ast.Attribute) -> Type | None:
        fact = self.member(base, node.attr, node)
        return Type("method", base.alias, base.name, node.attr) if isinstance(fact, list) else None

    def global_name(self, alias: str, node: ast.Attribute) -> Type | None:
        api = self.apis[alias]
        for kind, table in (("class", api.classes), ("enum", api.enums), ("function", api.functions)):
            if node.attr in table:
                return Type(kind, alias, node.attr)
        if node.attr not in CONSTANTS:
            self.problem(node, f"there is no {alias}.{node.attr}")
        return None

    def member(self, base: Type, name: str, node: ast.AST) -> str | list[Signature] | None:
        fact = self.apis[base.alias].classes.get(base.name, {}).get(name)
        if fact is None:
            self.problem(node, f"{base.name} has no {name}")
        return fact

    def call(self, node: ast.Call) -> Type | None:
        called = self.of(node.func)
        for argument in [*node.args, *(k.value for k in node.keywords)]:
            self.of(argument)
        if called is None:
            return None
        if called.kind == "maker":
            return Type("local", "", called.name)
        if called.kind == "method" and not called.alias:
            returns = self.sources[called.name].returns[called.member]
            return None if returns is None else self.annotation(returns)
        api = self.apis.get(called.alias)
        if api is None or called.kind not in ("method", "class", "function"):
            return None
        if called.kind == "function":
            signatures: Any = api.functions[called.name]
        else:
            signatures = api.classes[called.name].get(called.member or "__init__", [])
        return self.result(called, signatures, node)

    def result(self, called: Type, signatures: list[Signature], node: ast.Call) -> Type | None:
        starred = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
        keywords = [k.arg for k in node.keywords if k.arg]
        fitting = [s for s in signatures if starred or s.takes(len(node.args), keywords)]
        what = f"{called.name}.{called.member}" if called.member else called.name
        if signatures and not fitting:
            self.problem(node, f"{what} does not take {len(node.args)} arguments and {keywords}")
        if called.kind == "class":
            return Type("instance", called.alias, called.name)
        returns = fitting[0].returns if fitting else ""
        return Type("instance", called.alias, returns) if returns in self.apis[called.alias].classes else None

    def annotation(self, node: ast.expr) -> Type | None:
        """The foreign or local class that an annotation names; of `X | None`, X."""
        if isinstance(node, ast.BinOp):
            return self.annotation(node.left) or self.annotation(node.right)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self.annotation(ast.parse(node.value, mode="eval").body)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in CONTAINERS:
            inner = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) else node.slice
            held = self.annotation(inner)
            return None if held is None else Type("container", held.alias, held.name, held.kind)
        if not isinstance(node, ast.Name | ast.Attribute):
            return None
        if isinstance(node, ast.Attribute) and self.of(node.value) is None:
            return None
        found = self.of(node)
        if found is None or found.kind not in ("class", "maker"):
            return None
        return Type("instance" if found.kind == "class" else "local", found.alias, found.name)

    @staticmethod
    def element(found: Type | None) -> Type | None:
        """What is in a container."""
        return Type(found.member, found.alias, found.name) if found is not None and found.kind == "container" else None

    def decided(self, test: ast.expr) -> bool | None:
        """What a test of VERSION gives; None when it is another."""
        if isinstance(test, ast.BoolOp):
            values = [self.decided(v) for v in test.values]
            decisive = isinstance(test.op, ast.Or)
            if decisive in values:
                return decisive
            return None if None in values else not decisive
        if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "VERSION":
            other = ast.literal_eval(test.comparators[0])
            return {ast.GtE: self.number >= other, ast.Lt: self.number < other}[type(test.ops[0])]
        return None


# fmt: off
COMMON = frozenset((
    "__init__", "__dlpack__", "__dlpack_device__", "metadata", "name", "shape", "dtype", "size", "numpy",
    "close", "log", "flags", "code", "file", "line", "desc", "handle", "stream", "device", "launch", "update",
    "wait", "record", "sync", "context", "properties", "reset", "ERROR", "WARNING", "INFO", "owner", "view",
    "node", "func", "arch", "ptr", "strides", "options", "grid", "block", "serialize", "num_layers", "version",
    "query", "split", "join", "value", "fill", "time", "precision", "parse", "compile", "nbytes", "clear",
))
# fmt: on
"""Names that other things have too."""
CONTAINERS = ("dict", "list", "Mapping", "Sequence")
CONSTANTS = frozenset(("__version__", "LEGACY_DEFAULT_STREAM", "PER_THREAD_DEFAULT_STREAM"))


def find_problems(
    sources: dict[str, str], apis: dict[str, Api], modules: dict[str, str], number: tuple[int, ...]
) -> list[str]:
    """Everything that sources (name -> text) use that the libraries, in these versions, do not have."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    classes = {name: local for tree in trees.values() for name, local in collect_classes(tree).items()}
    found = []
    for name, tree in trees.items():
        check = ContractChecker(apis, modules, classes, number)
        check.block(tree.body)
        found += [f"{name}, {re.sub(r'  +', ' ', text)}" for text in check.problems]
    return found
