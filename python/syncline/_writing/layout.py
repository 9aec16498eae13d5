"""Python code from syntax trees, laid out as ruff and black do it.

`ast.unparse` gives lines of any length, and quotes of its own. What is written for people to read, to ship and to run
their formatter over needs more. This lays out what the package writes: headers of functions and classes, statements
around calls, annotations and defaults. Other expressions stay as they were written, or on one line.

1. A bracket's content stays on the line if that fits. Else it stands on a line of its own. Else it has a line for each
   item, with a comma after the last.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH: ContextVar[int] = ContextVar("WIDTH", default=88)
"""Of a line: by default what black and ruff take where nobody says otherwise."""
STEP = 4
"""Of indentation."""

Item: TypeAlias = "tuple[str, ast.expr | None, str]"
"""Of a bracket: what stands before an expression, that, and what stands behind it."""


def flat(node: ast.expr) -> str:
    """An expression on one line."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name) if _is_primary(value):
            return f"{flat(value)}.{name}"
        case ast.Constant(value=str() | bytes() as value):
            return _quoted(value)
        case ast.Constant(value=value) if value is Ellipsis:
            return "..."
        case ast.BinOp(left=left, op=ast.BitOr(), right=right) if _is_primary(right) and _is_union(left):
            return f"{flat(left)} | {flat(right)}"
        case ast.Constant(value=int() | float() | complex() as value) if not isinstance(value, bool):
            return _number(getattr(node, "written", None) or repr(value))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS and _is_operand(left, right):
            return f"{flat(left)} {_OPERATORS[type(op)]} {flat(right)}"
        case ast.Starred(value=value) if _is_primary(value):
            return f"*{flat(value)}"
        case _:
            pass
    if (parts := _bracket(node)) is not None:
        head, opening, items, closing = parts
        comma = "," if isinstance(node, ast.Tuple) and len(items) == 1 else ""
        return f"{head}{opening}{', '.join(map(_flat_item, items))}{comma}{closing}"
    written: str | None = getattr(node, "written", None)
    return ast.unparse(node) if written is None else written


def remember(node: ast.AST, lines: Sequence[bytes]) -> None:
    """Notes in the tree below `node` how that was written which has no layout of its own, such as numbers.

    lines: those of the source, encoded: columns count bytes.
    """
    for part in ast.walk(node):
        is_one_line = isinstance(part, ast.expr) and part.lineno == part.end_lineno
        if is_one_line and not isinstance(part, (ast.Name, ast.Attribute, ast.Subscript)):
            assert isinstance(part, ast.expr)
            vars(part)["written"] = lines[part.lineno - 1][part.col_offset : part.end_col_offset].decode()


def expression(node: ast.expr, indent: int, column: int, after: int = 0) -> str:
    """An expression that begins in `column` of a line indented by `indent`, with `after` more characters behind it."""
    line = flat(node)
    if column + len(line) + after <= WIDTH.get():
        return line
    if isinstance(node, ast.BinOp) and _is_union(node):
        inner = " " * (indent + STEP)
        first, *rest = map(flat, union_parts(node))
        lines = [line] if len(inner + line) <= WIDTH.get() else [first, *(f"| {part}" for part in rest)]
        return "(\n" + "".join(f"{inner}{part}\n" for part in lines) + " " * indent + ")"
    if isinstance(node, ast.IfExp):
        margin = "\n" + " " * (indent + STEP)
        return f"({margin}{margin.join(_conditional(node))}\n{' ' * indent})"
    if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp)) and len(node.generators) == 1:
        return _comprehension(node, indent)
    parts = _bracket(node)
    if parts is None or not parts[2]:
        return line
    head, opening, items, closing = parts
    has_comma = not isinstance(node, ast.Subscript) or len(items) > 1
    return head + _broken(opening, items, closing, indent, has_comma=has_comma)


def _conditional(node: ast.expr) -> list[str]:
    """The lines of a conditional expression that doesn't fit on one."""
    if not isinstance(node, ast.IfExp):
        return [flat(node)]
    first, *rest = _conditional(node.orelse)
    return [flat(node.body), f"if {flat(node.test)}", f"else {first}", *rest]


def _comprehension(node: ast.ListComp | ast.SetComp | ast.DictComp, indent: int) -> str:
    """One that doesn't fit on a line."""
    inner = " " * (indent + STEP)
    before, item = (f"{flat(node.key)}: ", node.value) if isinstance(node, ast.DictComp) else ("", node.elt)
    [each] = node.generators
    lines = [before + expression(item, indent + STEP, len(inner + before))]
    if isinstance(item, ast.IfExp) and "\n" in lines[0]:
        first, *rest = _conditional(item)
        lines = [before + first, *rest]
    lines.append(f"for {flat(each.target).strip('()')} in {flat(each.iter)}")
    lines += [f"if {flat(test)}" for test in each.ifs]
    opening, closing = "[]" if isinstance(node, ast.ListComp) else "{}"
    return f"{opening}\n{''.join(f'{inner}{line}' + chr(10) for line in lines)}{' ' * indent}{closing}"


def block(nodes: Iterable[ast.stmt], indent: int) -> str:
    """Statements, each on lines of its own."""
    return "\n".join(statement(node, indent) for node in nodes)


def statement(node: ast.stmt, indent: int) -> str:
    """A statement, with its indentation."""
    margin = " " * indent
    match node:
        case ast.For(target=target, iter=value, body=body):
            head, end = f"for {flat(target)} in ", ":"
        case ast.With(
            items=[ast.withitem(context_expr=value, optional_vars=ast.expr() as target)], body=body
        ):
            head, end = "with ", f" as {flat(target)}:"
        case ast.Return(value=ast.expr() as value):
            head, end, body = "return ", "", []
        case ast.Delete(targets=[value]):
            head, end, body = "del ", "", []
        case ast.Raise(exc=ast.expr() as value):
            head, end, body = "raise ", "", []
        case ast.Expr(value=ast.Yield(value=ast.expr() as value)):
            head, end, body = "yield ", "", []
        case ast.Expr(value=value):
            head, end, body = "", "", []
        case ast.Assign(targets=[target], value=value):
            head, end, body = f"{flat(target)} = ", "", []
        case ast.AnnAssign(target=target, annotation=annotation, value=ast.expr() as value):
            head, end, body = f"{flat(target)}: {flat(annotation)} = ", "", []
            if len(margin + head) >= WIDTH.get():
                start = f"{flat(target)}: "
                head = start + expression(annotation, indent, indent + len(start), len(" = ")) + " = "
        case ast.AnnAssign(target=target, annotation=value):
            head, end, body = f"{flat(target)}: ", "", []
        case _:
            raise NotImplementedError(ast.dump(node))
    before = head.rpartition("\n")[2]
    text = expression(value, indent, len(before) + indent * (before == head), len(end))
    first = margin * (before == head) + before + text.partition("\n")[0]
    if head.endswith("= ") and "\n" in text and len(first) > WIDTH.get():
        inner = indent + STEP  # not even what stands before the bracket fits
        text = f"(\n{' ' * inner}{expression(value, inner, inner)}\n{margin})"
    line = margin + head + text + end
    return "\n".join([line, *(statement(inner, indent + STEP) for inner in body)])


def header(node: ast.FunctionDef, indent: int, *, is_stub: bool) -> str:
    """The first lines of a function: its decorators, and all to the colon."""
    margin = " " * indent
    decorators = "".join(
        f"{margin}@{expression(decorator, indent, indent + 1)}\n" for decorator in node.decorator_list
    )
    head = f"{margin}def {node.name}{type_parameters(node)}"
    items = list(_parameters(node.args))
    end = ":" + " ..." * is_stub
    returns = "" if node.returns is None else f" -> {flat(node.returns)}"
    line = f"{head}({', '.join(map(_flat_item, items))}){returns}{end}"
    if len(line) <= WIDTH.get():
        return decorators + line
    if not items:
        return decorators + line
    broken = _broken("(", items, ")", indent, has_comma=True)
    if node.returns is not None:
        start = f"{margin}) -> "
        returns = " -> " + expression(node.returns, indent, len(start), len(end))
    return decorators + head + broken + returns + end


def class_header(node: ast.ClassDef) -> str:
    """The first line of a class, or lines."""
    head = f"class {node.name}{type_parameters(node)}"
    bases = [*_items(node.bases), *((f"{word.arg}=", word.value, "") for word in node.keywords)]
    if not bases:
        return f"{head}:"
    line = f"{head}({', '.join(map(_flat_item, bases))}):"
    return line if len(line) <= WIDTH.get() else f"{head}{_broken('(', bases, ')', 0, has_comma=True)}:"


def docstring(raw: str, indent: int) -> str:
    """A docstring as a literal. It begins and ends on lines of its own if it did so."""
    margin = " " * indent
    lines = [line.rstrip() for line in inspect.cleandoc(raw).strip().splitlines()]
    text = "\n".join(f"{margin}{line}" if line and number else line for number, line in enumerate(lines))
    prefix = ""
    if "\\" in text:
        prefix = "r" if '"""' not in text and not text.endswith("\\") else ""
        if not prefix:
            text = text.replace("\\", "\\\\")
    text = text.replace('"""', '\\"\\"\\"')
    if len(lines) > 1 and raw.lstrip(" ").startswith("\n"):
        text = f"\n{margin}{text}"
    elif text.startswith('"'):
        text = f" {text}"
    ends_alone = len(lines) > 1 and raw.rstrip(" ").endswith("\n")
    if text.endswith('"') and not ends_alone:
        text += " "
    quoted = f'{margin}{prefix}"""{text}'
    is_long = len(lines) > 1 and len(quoted.rpartition("\n")[2]) + 3 > WIDTH.get()
    return f'{quoted}\n{margin}"""' if is_long or ends_alone else f'{quoted}"""'


def type_parameters(node: ast.FunctionDef | ast.ClassDef) -> str:
    """What stands in square brackets behind the name, from Python 3.12 on."""
    parameters: list[ast.AST] = getattr(node, "type_params", [])
    return f"[{', '.join(map(ast.unparse, parameters))}]" if parameters else ""


def _broken(opening: str, items: Sequence[Item], closing: str, indent: int, *, has_comma: bool) -> str:
    """The content of a bracket on lines of its own (by 1)."""
    inner = " " * (indent + STEP)
    line = inner + ", ".join(map(_flat_item, items))
    if len(line) <= WIDTH.get() and len(items) > 1:
        return f"{opening}\n{line}\n{' ' * indent}{closing}"
    comma = "," if has_comma else ""
    lines: list[str] = []
    for before, node, after in items:
        text = inner + before
        if node is not None:
            text += expression(node, indent + STEP, len(text), len(after + comma))
        lines.append(text + after + comma + "\n")
    return f"{opening}\n{''.join(lines)}{' ' * indent}{closing}"


def _flat_item(item: Item) -> str:
    before, node, after = item
    return before + ("" if node is None else flat(node)) + after


def _bracket(node: ast.expr) -> tuple[str, str, list[Item], str] | None:
    """What stands before a bracket, in it and around it, if the expression ends with one."""
    match node:
        case ast.Call(func=function, args=args, keywords=keywords) if _is_primary(function):
            named: list[Item] = [
                ("**" if word.arg is None else f"{word.arg}=", word.value, "") for word in keywords
            ]
            return flat(function), "(", [*_items(args), *named], ")"
        case ast.Subscript(value=value, slice=ast.Tuple(elts=[_, *_] as elts)) if _is_primary(value):
            return flat(value), "[", _items(elts), "]"
        case ast.Subscript(value=value, slice=index) if _is_primary(value):
            return flat(value), "[", [("", index, "")], "]"
        case ast.Tuple(elts=elts):
            return "", "(", _items(elts), ")"
        case ast.List(elts=elts):
            return "", "[", _items(elts), "]"
        case ast.Set(elts=elts):
            return "", "{", _items(elts), "}"
        case ast.Dict(keys=keys, values=values):
            pairs: list[Item] = [
                ("**" if key is None else f"{flat(key)}: ", value, "")
                for key, value in zip(keys, values, strict=True)
            ]
            return "", "{", pairs, "}"
        case _:
            return None


def _is_primary(node: ast.expr) -> bool:
    """Whether it needs no parentheses where something follows it."""
    return isinstance(node, (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.List, ast.Tuple)) or (
        isinstance(node, ast.Constant) and not isinstance(node.value, (int, float, complex))
    )


_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.LShift: "<<",
}


def _is_operand(*nodes: ast.expr) -> bool:
    """Whether they need no parentheses beside an operator, and no look at which one that is."""
    return all(_is_primary(node) or isinstance(node, ast.Constant) for node in nodes)


def _number(text: str) -> str:
    """A number with the letters that formatters give it."""
    text = text.lower()
    return text[:2] + text[2:].upper() if text.startswith("0x") else text


def _is_union(node: ast.expr) -> bool:
    return _is_primary(node) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr))


def _items(nodes: Sequence[ast.expr]) -> list[Item]:
    return [("", node, "") for node in nodes]


def union_parts(node: ast.expr) -> list[ast.expr]:
    """The members of a union that is written with `|`; what is none is one itself."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return [*union_parts(left), *union_parts(right)]
        case _:
            return [node]


def _parameters(args: ast.arguments) -> Iterator[Item]:
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [*[None] * (len(positional) - len(args.defaults)), *args.defaults]
    for number, (arg, default) in enumerate(zip(positional, defaults, strict=True), 1):
        yield _parameter(arg, default)
        if number == len(args.posonlyargs):
            yield "/", None, ""
    if args.vararg is not None:
        yield _parameter(args.vararg, None, "*")
    elif args.kwonlyargs:
        yield "*", None, ""
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield _parameter(arg, default)
    if args.kwarg is not None:
        yield _parameter(args.kwarg, None, "**")


def _parameter(arg: ast.arg, default: ast.expr | None, stars: str = "") -> Item:
    name = stars + arg.arg
    if arg.annotation is None:
        return (name, None, "") if default is None else (f"{name}=", default, "")
    if default is None:
        return f"{name}: ", arg.annotation, ""
    said, value = flat(arg.annotation), flat(default)
    if len(value) > len(said):
        return f"{name}: {said} = ", default, ""
    return f"{name}: ", arg.annotation, f" = {value}"


def _quoted(value: str | bytes) -> str:
    """A string in double quotes, unless single ones spare backslashes."""
    prefix = "b" if isinstance(value, bytes) else ""
    text = repr(value).removeprefix(prefix)
    if text[0] == "'" and '"' not in text:
        text = '"' + re.sub(r"\\'", "'", text[1:-1]) + '"'
    return prefix + text
