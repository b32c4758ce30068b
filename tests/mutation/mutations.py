# SPDX-License-Identifier: Apache-2.0
"""Mutants of Python code: small faults, each in one node of the syntax tree."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "foveate"

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
# Names that are easily confused, and that have the same value on square or symmetric data.
PAIRS = [
    ("height", "width"), ("rows", "columns"), ("horizontal", "vertical"), ("min", "max"),
    ("any", "all"), ("floor", "ceil"), ("zeros", "ones"), ("argmin", "argmax"), ("mean", "std"),
    ("minimum", "maximum"), ("start", "stop"), ("first", "last"),
]  # fmt: skip
TWINS = {name: twin for pair in PAIRS for name, twin in (pair, pair[::-1])}
# Functions whose calls must not be replaced by their first argument: that fails everywhere.
KEPT = {"dict", "enumerate", "isinstance", "len", "list", "range", "replace", "set", "str", "zip"}
# Functions whose first two arguments can be swapped without an effect.
SYMMETRIC = {"min", "max", "minimum", "maximum", "hypot", "logaddexp"}
# Nodes that change no result: error texts, assertions, and code for type checkers.
SKIPPED = (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A change of one node.

    Args:
        source: Path of the file, relative to the package.
        scope: Qualified name of the function; empty outside of functions.
        kind: Kind of the change.
        text: First line of the node.
        before: Text of the node.
        after: Text that replaces it.
        repeat: Number of this change among equal changes of equal lines in the scope.
        line: Line number; not part of the key, since lines move.
        begin: Offset of the node's first byte.
        end: Offset after the node's last byte.
    """

    source: str
    scope: str
    kind: str
    text: str
    before: str
    after: str
    repeat: int
    line: int
    begin: int
    end: int

    @property
    def key(self) -> str:
        """Digest of the parts that do not depend on other lines of the source."""
        parts = (self.source, self.scope, self.kind, self.text, self.before, self.after)
        return hashlib.sha256("\0".join((*parts, str(self.repeat))).encode()).hexdigest()[:16]

    def code(self) -> bytes:
        """Return the changed source."""
        code = (PACKAGE / self.source).read_bytes()
        assert code[self.begin : self.end].decode() == self.before, f"{self.source}: edited since"
        return code[: self.begin] + self.after.encode() + code[self.end :]


def mutants_of(source: str) -> list[Mutant]:
    """Return all mutants of a source."""
    code = (PACKAGE / source).read_bytes()
    lines = code.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    seen: Counter[tuple[str, ...]] = Counter()
    found = []
    for scope, kind, node, after in _walk(ast.parse(code)):
        text = lines[node.lineno - 1].decode().strip()
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        before = code[begin:end].decode()
        seen[scope, kind, text, before, after] += 1
        found.append(
            Mutant(
                source=source,
                scope=scope,
                kind=kind,
                text=text,
                before=before,
                after=after,
                repeat=seen[scope, kind, text, before, after],
                line=node.lineno,
                begin=begin,
                end=end,
            )
        )
    return found


def draw(sources: list[str], seed: int) -> list[Mutant]:
    """Return the mutants of sources in an order that depends only on the seed and their keys."""
    mutants = [mutant for source in sources for mutant in mutants_of(source)]
    return sorted(mutants, key=lambda m: hashlib.sha256(f"{seed} {m.key}".encode()).digest())


def _walk(
    node: ast.AST, scope: str = "", prefix: str = ""
) -> Iterator[tuple[str, str, ast.expr | ast.stmt, str]]:
    """Yield scope, kind, node and replacement text of every change of a node and its descendants.

    Args:
        node: Node of the syntax tree.
        scope: Qualified name of the innermost enclosing function or class.
        prefix: Prefix of the qualified names of functions and classes in the node.
    """
    if isinstance(node, SKIPPED) or _is_for_types(node):
        return
    if isinstance(node, ast.FunctionDef):
        scope, prefix = prefix + node.name, f"{prefix}{node.name}.<locals>."
    elif isinstance(node, ast.ClassDef):
        scope, prefix = prefix + node.name, f"{prefix}{node.name}."
    if isinstance(node, ast.expr | ast.stmt):
        for kind, changed in _changes(node):
            place = node.test if isinstance(node, ast.If) else node
            bare = isinstance(place, ast.stmt | ast.Slice)
            yield scope, kind, place, ast.unparse(changed) if bare else f"({ast.unparse(changed)})"
    for name, value in ast.iter_fields(node):
        if name not in {"annotation", "returns", "decorator_list", "bases"}:
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, ast.AST):
                    yield from _walk(part, scope, prefix)


def _is_for_types(node: ast.AST) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.If(test=ast.Name("TYPE_CHECKING")):
            return True
        case ast.Assign(value=ast.Subscript()) | ast.Assign(value=ast.BinOp(op=ast.BitOr())):
            return node.col_offset == 0  # an alias of a type
    return False


def _changes(node: ast.expr | ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    """Yield the kind and the replacement of each change of a node."""
    if isinstance(node, ast.stmt):
        yield from _changed_statements(node)
    elif isinstance(node, ast.Call):
        yield from _changed_calls(node)
    elif isinstance(node, ast.BinOp | ast.Compare | ast.BoolOp | ast.UnaryOp):
        yield from _changed_operations(node)
    elif isinstance(node, ast.Constant):
        yield from (("constant", ast.Constant(value)) for value in _other_values(node.value))
    elif isinstance(node, ast.Name) and node.id in TWINS:
        yield "name", ast.Name(TWINS[node.id])
    elif isinstance(node, ast.Attribute) and node.attr in TWINS:
        yield "name", _with(node, attr=TWINS[node.attr])
    elif isinstance(node, ast.IfExp):
        yield from (("condition", one) for one in (node.body, node.orelse))
    elif isinstance(node, ast.Slice):
        bounds = [bound for bound in ("lower", "upper", "step") if getattr(node, bound)]
        yield from (("slice", _with(node, **{bound: None})) for bound in bounds)


def _changed_statements(node: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.If(test=ast.Name() | ast.Attribute() | ast.Call()):
            yield "condition", ast.UnaryOp(ast.Not(), node.test)
        case ast.AugAssign():
            yield "statement", ast.Pass()
            if type(node.op) in OPERATORS:
                yield "operator", _with(node, op=OPERATORS[type(node.op)]())
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()):
            yield "statement", ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "statement", ast.Pass()
        case ast.Continue():
            yield "statement", ast.Break()
        case ast.Break():
            yield "statement", ast.Continue()


def _changed_operations(node: ast.expr) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.BinOp():
            if type(node.op) in OPERATORS:
                yield "operator", _with(node, op=OPERATORS[type(node.op)]())
            yield "operand", node.left
        case ast.Compare():
            for i, op in enumerate(node.ops):
                ops = [*node.ops[:i], OPERATORS[type(op)](), *node.ops[i + 1 :]]
                yield "comparison", _with(node, ops=ops)
        case ast.BoolOp():
            yield "condition", _with(node, op=OPERATORS[type(node.op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield "operand", node.operand


def _changed_calls(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    for i, keyword in enumerate(node.keywords):
        if keyword.arg:
            yield "argument", _with(node, keywords=node.keywords[:i] + node.keywords[i + 1 :])
    called = ast.unparse(node.func).rpartition(".")[2]
    match node.args:
        case [first, ast.Starred() | ast.GeneratorExp(), *_]:
            pass
        case [first, second, *rest] if called not in SYMMETRIC:
            yield "argument", _with(node, args=[second, first, *rest])
    match node.func:
        case ast.Name(id=name) if name in KEPT or name[0].isupper():
            pass
        case ast.Attribute(value=ast.Name(id="np" | "torch" | "math" | "F")) | ast.Name():
            if node.args and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp):
                yield "operand", node.args[0]
        case ast.Attribute():
            yield "operand", node.func.value


def _other_values(value: object) -> list[bool] | list[int] | list[float]:
    match value:
        case bool():
            return [not value]
        case int():
            return [1 - value] if value in {0, 1} else [value - 1, value + 1]
        case float():
            return [value * 1.1 if value else 1.0]
    return []


def _with(node: ast.AST, **fields: object) -> ast.AST:
    """Return a copy of a node with some fields replaced."""
    changed = copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed
