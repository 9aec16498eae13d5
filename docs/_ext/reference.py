"""The pages of the reference, from docstrings: what autodoc doesn't know about ours.

1. Our docstrings are plain text with `code` in single backticks, `option: what it does` and indented examples. They
   become reStructuredText here.
2. The extension's functions have no annotations: their types come from the stub, as they stand there.
3. The module's functions are methods of the default bridge, and so have the overloads of those.
4. Types are named as in the source, `Future` and not `concurrent.futures.Future`: the names are looked up here, and in
   inventories/, so that a build needs no network.
5. A public name that is on no page is a warning, and a warning an error.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging

import syncline
from syncline._kinds import REQUIRED

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

PACKAGE = Path(syncline.__file__).parent
INVENTORIES = Path(__file__).parent.parent / "inventories"
# What functions return, and nobody makes or imports.
SEEN_TYPES = {
    "Report": "syncline._doctor.report.Report",
    "Finding": "syncline._doctor.report.Finding",
    "GroupTask": "syncline._many.group.GroupTask",
    "Group": "syncline._many.group.Group",
    "MapIterator": "syncline._many.results.MapIterator",
    "Progress": "syncline._many.progress.Progress",
    "MapProgress": "syncline._many.progress.MapProgress",
    "Synced": "syncline._synced.Synced",
    "Finalizer": "syncline._finalizing.Finalizer",
    "SyncCompatible": "syncline._compatible.SyncCompatible",
    "ThreadIterator": "syncline._steps.ThreadIterator",
    "ThreadLimiterStatistics": "syncline._limits.ThreadLimiterStatistics",
    "ThreadManager": "syncline._steps.ThreadManager",
    "Threaded": "syncline._steps.Threaded",
    "Workers": "syncline._many.options.Workers",
    "Frame": "syncline.waiting.Frame",
    "Kind": "syncline.waiting.Kind",
    "LimiterState": "syncline.waiting.LimiterState",
    "LoopState": "syncline.waiting.LoopState",
    "Wait": "syncline.waiting.Wait",
    "Waits": "syncline.waiting.Waits",
}
TYPE_VARIABLE = re.compile(
    r"(syncline\.[\w.]+\.)?_?(P(\.args|\.kwargs)?|R|R_co|S|T|Y|A|G|Args|Self|MP|MR|MA|AsyncFunction)"
)


def signatures_of_the_stub() -> dict[str, tuple[str, str]]:
    """Arguments and result of each function and method of the extension, by its dotted name."""
    found: dict[str, tuple[str, str]] = {}

    def add(prefix: str, body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                add(f"{node.name}.", node.body)
            elif isinstance(node, ast.FunctionDef):
                if prefix:
                    (node.args.posonlyargs or node.args.args).pop(0)
                result = ast.unparse(node.returns) if node.returns else ""
                texts = (f"({ast.unparse(node.args)})", result)
                arguments, result = (re.sub(r"\b_(?=[A-Z]\b)", "", text) for text in texts)
                # Where only `self` was before it, this is no marker any more.
                found.setdefault(prefix + node.name, (arguments.replace("(/, ", "("), result))

    for stub in ("_core.pyi", "_core_dual.pyi", "_core_tasks.pyi"):
        add("", ast.parse((PACKAGE / stub).read_text()).body)
    return found


STUB = signatures_of_the_stub()
ERRORS = re.compile(r"\b((?:[A-Z]\w+Error)|WouldBlock|GatherIncomplete)\b")


def signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str | None, result: str | None
) -> tuple[str, str] | None:
    """The stub's, for what the extension defines (by 2)."""
    if inspect.isclass(obj):
        is_ours = obj.__module__.startswith("syncline") and "__init__" not in vars(obj)
        of = [f"{base.__name__}.__new__" for base in obj.__mro__ if base.__module__ == "syncline._core"]
        of += [f"{base.__name__}.__init__" for base in obj.__mro__]
        known = [key for key in of if key in STUB and "_args" not in STUB[key][0]]
        return (STUB[known[0]][0], "") if is_ours and known else None
    if arguments is not None and (stands_in := f" = {REQUIRED}") in arguments:
        return arguments.replace(stands_in, ""), result or ""
    if (
        not inspect.isroutine(obj)
        or inspect.isfunction(obj)
        or inspect.isfunction(getattr(obj, "__func__", None))
    ):
        return None
    return STUB.get(getattr(obj, "__qualname__", ""))


def docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings as reStructuredText (by 1)."""
    paragraphs = "\n".join(lines).strip("\n").split("\n\n")
    # What compat's modules call `run` is their own.
    link = _code if name.startswith("syncline.compat") else _linked
    written: list[str] = []
    for before, text in zip(["", *paragraphs], paragraphs, strict=False):
        if text.startswith("    "):
            written += [] if before.startswith("    ") else [".. code-block:: python"]
            written.append(text)
        else:
            written.append(_paragraph(text, link))
    lines[:] = "\n\n".join(written).split("\n")


def _paragraph(text: str, link: Callable[[str], str]) -> str:
    option = re.compile(r"^(\w+): ", re.MULTILINE)
    if option.match(text):
        text = "\n".join(
            line if option.match(line) or line.startswith("    ") else f"    {line}"
            for line in text.split("\n")
        )
        text = option.sub(r":param \1: ", text)
    # In turns outside and inside of backticks.
    parts = re.split(r"(?<!:)`([^`]+)`", text)
    parts[::2] = [ERRORS.sub(r":py:exc:`\1`", part) for part in parts[::2]]
    parts[1::2] = [link(part) for part in parts[1::2]]
    return "".join(parts)


def _code(code: str) -> str:
    return f"``{code}``"


def _linked(code: str) -> str:
    name = code.removeprefix("syncline.").removesuffix("()")
    is_public = name.partition(".")[0] in syncline.__all__
    return f":py:obj:`{code} <syncline.{name}>`" if is_public else _code(code)


def show_seen_types() -> None:
    """Gives the modules the classes that only type checkers see in them."""
    for name in SEEN_TYPES.values():
        module_name, _, class_name = name.rpartition(".")
        module = importlib.import_module(module_name)
        if hasattr(module, class_name):
            continue
        spec = importlib.util.find_spec(module_name)
        assert spec is not None
        assert spec.loader is not None
        as_checked = importlib.util.module_from_spec(spec)
        typing.TYPE_CHECKING = True
        try:
            spec.loader.exec_module(as_checked)
        finally:
            typing.TYPE_CHECKING = False
        setattr(module, class_name, getattr(as_checked, class_name))


def copy_overloads() -> None:
    """Those of `Bridge`'s methods, for the functions that they are, too (by 3)."""
    analyzer = ModuleAnalyzer.for_module("syncline._bridge")
    analyzer.analyze()
    for name in syncline.__all__:
        if overloads := analyzer.overloads.get(f"Bridge.{name}"):
            analyzer.overloads[name] = [
                each.replace(parameters=list(each.parameters.values())[1:]) for each in overloads
            ]


def names_elsewhere() -> Iterator[tuple[str, str]]:
    """The short names of what the inventories have."""
    for inventory in INVENTORIES.glob("*.inv"):
        for line in inventory.read_text().splitlines()[3:]:
            name = line.split()[0]
            yield name.rpartition(".")[2], name


ELSEWHERE = dict(names_elsewhere())


def reference(app: Sphinx, env: BuildEnvironment, node: Any, shown: nodes.TextElement) -> Any:
    """What a short name of a type stands for (by 4)."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    if TYPE_VARIABLE.fullmatch(target):
        return shown
    if target in SEEN_TYPES or target in syncline.__all__:
        full = SEEN_TYPES.get(target, f"syncline.{target}")
        python = env.get_domain("py")
        return python.resolve_xref(env, node["refdoc"], app.builder, "obj", full, node, shown)  # type: ignore[arg-type]
    if target in ELSEWHERE:
        node["reftarget"] = ELSEWHERE[target]  # for intersphinx, which comes after this
    return None


def check_that_all_is_there(app: Sphinx, env: BuildEnvironment) -> None:
    """By 5."""
    known = env.get_domain("py").data["objects"]  # type: ignore[index]
    for name in syncline.__all__:
        if f"syncline.{name}" not in known:
            logging.getLogger(__name__).warning("the public name %r is on no page of docs/reference", name)


def setup(app: Sphinx) -> dict[str, bool]:
    show_seen_types()
    copy_overloads()
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("missing-reference", reference, priority=400)
    app.connect("env-check-consistency", check_that_all_is_there)
    return {"parallel_read_safe": True}
