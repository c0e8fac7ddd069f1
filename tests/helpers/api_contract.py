"""Checks that sources use nothing that a library lacks.

The check follows types through a source: of `trt.X` and `core.X`, of parameters and fields with such annotations, and
of what their methods return. It looks up every attribute, argument count, keyword and enum member. A branch such as
`if library.api >= (10, 0):` or `if library.is_rtx:` is walked for the versions that take it. A name that only the
library has, on something of unknown type, is an error too: the source must annotate it.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from helpers.foreign_api import Api, Signature


@dataclass
class LocalClass:
    """A class of the sources under test, with the annotations of its fields and methods."""

    bases: list[ast.expr] = field(default_factory=list)
    fields: dict[str, ast.expr] = field(default_factory=dict)
    returns: dict[str, ast.expr | None] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    """Fields without an annotation."""


def collect_classes(tree: ast.Module) -> dict[str, LocalClass]:
    """Return the classes of a source by name, and each function as a class of its own name."""
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


class Version(NamedTuple):
    """A version of TensorRT or TensorRT for RTX, as `ganrt.gpu.Library` describes it."""

    api: tuple[int, ...]
    is_rtx: bool


class Type(NamedTuple):
    """`kind` is container (`member` is the kind of its elements), module, class, enum, function, method, instance (of a
    library's class), local (instance of a class of the sources) or maker (that class itself)."""

    kind: str
    alias: str
    name: str = ""
    member: str = ""


class ContractChecker(ast.NodeVisitor):
    """Walks a source for one version of each library and collects `problems`."""

    def __init__(
        self, apis: dict[str, Api], modules: dict[str, str], sources: dict[str, LocalClass], version: Version
    ) -> None:
        """
        Args:
            apis: alias -> library.
            modules: package -> alias, for `from cuda.core import Stream`.
            version: what `Library` says of the version.
        """
        self.apis, self.modules, self.sources, self.version = apis, modules, sources, version
        self.problems: list[str] = []
        self.scopes: list[dict[str, Type]] = [{}]
        own = {name for a in apis.values() for members in a.classes.values() for name in members}
        self.guarded = own - COMMON

    def report(self, node: ast.AST, text: str) -> None:
        self.problems.append(f"line {getattr(node, 'lineno', '?')}: {text}")

    def check_block(self, body: list[ast.stmt]) -> bool:
        """Walk statements up to one that always leaves the block; return whether there was one."""
        return any(self.check_statement(statement) for statement in body)

    def check_statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.If):
            known = self.decide(node.test)
            if known is not None:
                return self.check_block(node.body if known else node.orelse)
            self.infer(node.test)
            left = [self.check_block(node.body), self.check_block(node.orelse)]
            return all(left)
        if isinstance(node, ast.FunctionDef):
            self.check_function(node)
        elif isinstance(node, ast.ClassDef):
            self.scopes.append({"self": Type("local", "", node.name)})
            self.check_block(node.body)
            self.scopes.pop()
        elif isinstance(node, ast.ImportFrom):
            self.check_import(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname in self.apis:
                    self.scopes[-1][alias.asname] = Type("module", alias.asname)
        else:
            self.check_simple(node)
        return isinstance(node, ast.Return | ast.Raise | ast.Continue | ast.Break)

    def check_simple(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            found = self.infer(node.value)
            for target in node.targets:
                self.assign(target, found)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.infer(node.value)
            self.assign(node.target, self.resolve_annotation(node.annotation))
        elif isinstance(node, ast.For):
            self.assign(node.target, self.get_element(self.infer(node.iter)))
            self.check_block(node.body)
        elif isinstance(node, ast.With):
            for item in node.items:
                found = self.infer(item.context_expr)
                if item.optional_vars is not None:
                    self.assign(item.optional_vars, found)
            self.check_block(node.body)
        elif isinstance(node, ast.Try):
            for body in (node.body, *(h.body for h in node.handlers), node.orelse, node.finalbody):
                self.check_block(body)
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.stmt):
                    self.check_statement(child)
                elif isinstance(child, ast.expr):
                    self.infer(child)

    def check_function(self, node: ast.FunctionDef) -> None:
        inherited = {k: v for k, v in self.scopes[-1].items() if k == "self"}
        scope = {**inherited}
        for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
            if argument.annotation is not None and (found := self.resolve_annotation(argument.annotation)):
                scope[argument.arg] = found
        self.scopes.append(scope)
        self.check_block(node.body)
        self.scopes.pop()

    def check_import(self, node: ast.ImportFrom) -> None:
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
                self.report(node, f"{library} has no {alias.name}")

    def assign(self, target: ast.expr, found: Type | None) -> None:
        if isinstance(target, ast.Name):
            if found is None:
                self.scopes[-1].pop(target.id, None)
            else:
                self.scopes[-1][target.id] = found
        elif isinstance(target, ast.Attribute):
            base = self.infer(target.value)
            if base is not None and base.kind == "instance":
                fact = self.look_up(base, target.attr, target)
                if fact is not None and fact != "settable":
                    self.report(target, f"{base.name}.{target.attr} cannot be set")
            elif base is None and target.attr in self.guarded:
                self.report(target, f"{target.attr} is set on something of unknown type: annotate it")
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self.assign(part, None)
        else:
            self.infer(target)

    def infer(self, node: ast.expr) -> Type | None:
        """Check an expression and return its type."""
        if isinstance(node, ast.Name):
            if (found := next((s[node.id] for s in reversed(self.scopes) if node.id in s), None)) is not None:
                return found
            local = self.sources.get(node.id)
            if local is not None and node.id in local.returns:
                return Type("method", "", node.id, node.id)
            return None if local is None else Type("maker", "", node.id)
        if isinstance(node, ast.Attribute):
            return self.infer_attribute(node)
        if isinstance(node, ast.Call):
            return self.infer_call(node)
        if isinstance(node, ast.Subscript):
            self.infer(node.slice)
            return self.get_element(self.infer(node.value))
        if isinstance(node, ast.IfExp):
            known = self.decide(node.test)
            if known is not None:
                return self.infer(node.body if known else node.orelse)
            self.infer(node.test)
            return self.infer(node.body) or self.infer(node.orelse)
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            for value in node.values:
                if self.decide(value) is False:
                    return None
                self.infer(value)
            return None
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.infer(child)
            elif isinstance(child, ast.comprehension):
                for part in (child.iter, *child.ifs):
                    self.infer(part)
        return None

    def infer_attribute(self, node: ast.Attribute) -> Type | None:
        if node.attr in self.apis and node.attr == "trt":  # `Library.trt`
            return Type("module", node.attr)
        base = self.infer(node.value)
        if base is None:
            if node.attr in self.guarded:
                self.report(node, f"{node.attr} is used on something of unknown type: annotate it")
            return None
        if base.kind == "module":
            return self.infer_global(base.alias, node)
        if base.kind == "enum":
            if node.attr not in self.apis[base.alias].enums[base.name]:
                self.report(node, f"{base.name} has no {node.attr}")
            return None
        if base.kind in ("instance", "class"):
            fact = self.look_up(base, node.attr, node)
            return Type("method", base.alias, base.name, node.attr) if isinstance(fact, list) else None
        return self.infer_local_attribute(base, node)

    def infer_local_attribute(self, base: Type, node: ast.Attribute) -> Type | None:
        local = self.sources.get(base.name)
        if local is None or base.kind not in ("local", "maker"):
            return None
        if node.attr in local.fields:
            return self.resolve_annotation(local.fields[node.attr])
        if node.attr in local.returns:
            return Type("method", "", base.name, node.attr)
        if node.attr in local.others:
            return None
        for foreign in [self.infer(b) for b in local.bases]:
            if foreign is not None and foreign.kind == "class":
                return self.infer_member(Type("instance", foreign.alias, foreign.name), node)
        return None

    def infer_member(self, base: Type, node: ast.Attribute) -> Type | None:
        fact = self.look_up(base, node.attr, node)
        return Type("method", base.alias, base.name, node.attr) if isinstance(fact, list) else None

    def infer_global(self, alias: str, node: ast.Attribute) -> Type | None:
        api = self.apis[alias]
        for kind, table in (("class", api.classes), ("enum", api.enums), ("function", api.functions)):
            if node.attr in table:
                return Type(kind, alias, node.attr)
        if node.attr not in CONSTANTS:
            self.report(node, f"there is no {alias}.{node.attr}")
        return None

    def look_up(self, base: Type, name: str, node: ast.AST) -> str | list[Signature] | None:
        fact = self.apis[base.alias].classes.get(base.name, {}).get(name)
        if fact is None:
            self.report(node, f"{base.name} has no {name}")
        return fact

    def infer_call(self, node: ast.Call) -> Type | None:
        called = self.infer(node.func)
        for argument in [*node.args, *(k.value for k in node.keywords)]:
            self.infer(argument)
        if called is None:
            return None
        if called.kind == "maker":
            return Type("local", "", called.name)
        if called.kind == "method" and not called.alias:
            returns = self.sources[called.name].returns[called.member]
            return None if returns is None else self.resolve_annotation(returns)
        api = self.apis.get(called.alias)
        if api is None or called.kind not in ("method", "class", "function"):
            return None
        if called.kind == "function":
            signatures: Any = api.functions[called.name]
        else:
            signatures = api.classes[called.name].get(called.member or "__init__", [])
        return self.infer_result(called, signatures, node)

    def infer_result(self, called: Type, signatures: list[Signature], node: ast.Call) -> Type | None:
        starred = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
        keywords = [k.arg for k in node.keywords if k.arg]
        fitting = [s for s in signatures if starred or s.takes(len(node.args), keywords)]
        what = f"{called.name}.{called.member}" if called.member else called.name
        if signatures and not fitting:
            self.report(node, f"{what} does not take {len(node.args)} arguments and {keywords}")
        if called.kind == "class":
            return Type("instance", called.alias, called.name)
        returns = fitting[0].returns if fitting else ""
        return Type("instance", called.alias, returns) if returns in self.apis[called.alias].classes else None

    def resolve_annotation(self, node: ast.expr) -> Type | None:
        """Return the class that an annotation names; for `X | None`, X."""
        if isinstance(node, ast.BinOp):
            return self.resolve_annotation(node.left) or self.resolve_annotation(node.right)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self.resolve_annotation(ast.parse(node.value, mode="eval").body)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in CONTAINERS:
            inner = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) else node.slice
            held = self.resolve_annotation(inner)
            return None if held is None else Type("container", held.alias, held.name, held.kind)
        if not isinstance(node, ast.Name | ast.Attribute):
            return None
        if isinstance(node, ast.Attribute) and self.infer(node.value) is None:
            return None
        found = self.infer(node)
        if found is None or found.kind not in ("class", "maker"):
            return None
        return Type("instance" if found.kind == "class" else "local", found.alias, found.name)

    @staticmethod
    def get_element(found: Type | None) -> Type | None:
        """Return the type of a container's elements."""
        return Type(found.member, found.alias, found.name) if found is not None and found.kind == "container" else None

    def decide(self, test: ast.expr) -> bool | None:
        """Return the outcome of a test of `Library.api` or `is_rtx`; None for any other test."""
        if isinstance(test, ast.BoolOp):
            values = [self.decide(v) for v in test.values]
            decisive = isinstance(test.op, ast.Or)
            if decisive in values:
                return decisive
            return None if None in values else not decisive
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            known = self.decide(test.operand)
            return None if known is None else not known
        if isinstance(test, ast.Attribute) and test.attr == "is_rtx":
            return self.version.is_rtx
        if isinstance(test, ast.Compare) and isinstance(test.left, ast.Attribute) and test.left.attr == "api":
            other = ast.literal_eval(test.comparators[0])
            return {ast.GtE: self.version.api >= other, ast.Lt: self.version.api < other}[type(test.ops[0])]
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
"""Names that other libraries and ganrt have too."""
CONTAINERS = ("dict", "list", "Mapping", "Sequence")
CONSTANTS = frozenset(("__version__", "LEGACY_DEFAULT_STREAM", "PER_THREAD_DEFAULT_STREAM"))


def find_problems(
    sources: dict[str, str], apis: dict[str, Api], modules: dict[str, str], version: Version
) -> list[str]:
    """Return everything that sources (name -> text) use and the libraries lack in these versions."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    classes = {name: local for tree in trees.values() for name, local in collect_classes(tree).items()}
    found = []
    for name, tree in trees.items():
        checker = ContractChecker(apis, modules, classes, version)
        checker.check_block(tree.body)
        found += [f"{name}, {re.sub(r'  +', ' ', text)}" for text in checker.problems]
    return found
