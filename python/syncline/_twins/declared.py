"""The twin as a class statement: `@blocking(of=AsyncClient) class Client: ...`.

The class gives the twin its name, where pickle and type checkers find it, and says what they should know: a method
whose body is `...` or `raise NotImplementedError` is declared only, and what has a body is the twin's own.
"""

from __future__ import annotations

import inspect
import types
from typing import TYPE_CHECKING, Any

from .._kinds import inside
from .objects import Twin

if TYPE_CHECKING:
    from collections.abc import Iterator


# What a body that only declares is compiled to, whatever it says: without a docstring, with one, and raising.
def _declared() -> None: ...


def _described() -> None:
    """."""


def _raising() -> None:
    raise NotImplementedError


_EMPTY = {(made.__code__.co_code, made.__code__.co_names) for made in (_declared, _described, _raising)}
_OF_THE_STATEMENT = ("__dict__", "__weakref__", "__static_attributes__", "__firstlineno__")


def filled(statement: type, twin: type[Twin]) -> type[Twin]:
    """The twin under the name of the class, with what its body adds."""
    body = dict(_own(statement, twin))
    bases = tuple(base for base in statement.__bases__ if base is not object)
    made = types.new_class(
        statement.__name__, (*bases, twin), exec_body=lambda space: space.update({"__slots__": (), **body})
    )
    made.__qualname__ = statement.__qualname__
    for value in body.values():
        _turn_super(value, statement, made)
    return made


def _own(statement: type, twin: type[Twin]) -> Iterator[tuple[str, Any]]:
    for name, value in vars(statement).items():
        if name in _OF_THE_STATEMENT or (name == "__doc__" and value is None):
            continue
        if not _is_only_declared(value):
            yield name, value
        elif not hasattr(twin, name):
            raise TypeError(
                f"{statement.__name__} declares {name!r}, which {twin._twin_class.__name__} has not; give it a body, "
                "or the name that the async class has"
            )


def _is_only_declared(value: Any) -> bool:
    functions = _functions(value)
    codes = [(function.__code__.co_code, function.__code__.co_names) for function in functions]
    return bool(codes) and _EMPTY.issuperset(codes)


def _functions(value: Any) -> list[types.FunctionType]:
    if isinstance(value, property):
        return [function for function in (value.fget, value.fset, value.fdel) if inspect.isfunction(function)]
    function = inside(value)
    return [function] if isinstance(function, types.FunctionType) else []


def _turn_super(value: Any, statement: type, made: type) -> None:
    """`super()` without arguments looks in a cell for the class of the statement, which the twin takes the place of."""
    for function in _functions(value):
        for cell in function.__closure__ or ():
            if cell.cell_contents is statement:
                cell.cell_contents = made
