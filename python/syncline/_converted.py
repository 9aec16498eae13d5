"""What `synced` and `sync_compatible` make of an async function: what both have in common.

1. It is a plain function, which binds, pickles and can be inspected as any other. Its attribute `aio` is the
   original.
2. In a class body it is a `Method` around that function. A bound plain function would have the function's
   `aio`, which is not bound to the object.
3. What is made of an object that doesn't bind, such as a partial or a bound method, doesn't bind either.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
from typing import TYPE_CHECKING, Any, cast

from ._kinds import inside

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from ._core import Bridge


def placed(bridge: Bridge, decorator: str, fn: Any, function: Any) -> Any:
    """What the decorator returns in the place of `fn`, of which it has made the plain function `function` (by
    1 to 3)."""
    inner = inside(fn)
    kind = type(cast("object", inner))
    function.aio = inner
    if isinstance(fn, staticmethod):
        return StaticMethod(function)
    if isinstance(fn, classmethod):
        return ClassMethod(function)
    if not hasattr(kind, "__get__") or isinstance(inner, (types.MethodType, functools.partial)):
        made = Converted(function)
        vars(made)["decorator"] = getattr(bridge, decorator)
        return made
    owner = getattr(inner, "__qualname__", "").rpartition(".")[0]
    return Method(function) if owner and not owner.endswith("<locals>") else function


class Converted(functools.partial[Any]):
    """A bound method, or what was made of an object that doesn't bind (by 3).

    It is a partial of the plain function, with the instance, if there is one, as its first argument. So
    calling it takes no frame of its own.
    """

    # The class body has no annotations: tools that ask an instance for its own would find those of the class.

    def __new__(cls, function: Callable[..., Any], /, *instance: Any) -> Self:
        made = super().__new__(cls, function, *instance)
        # Set here, as `__getattr__` is not asked for them: the class has its own.
        made.__dict__.update(__doc__=function.__doc__, __module__=function.__module__)
        return made

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":  # that takes the instance, too
            raise AttributeError(name)
        return getattr(self.func, name)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(types.MethodType(self.func, self.args[0]) if self.args else self.func)

    @property
    def aio(self) -> Any:
        """The async function itself, bound as this is."""
        original = cast("Any", self.func).aio
        return original.__get__(*self.args) if self.args else original

    @property
    def __self__(self) -> Any:
        if not self.args:
            raise AttributeError("__self__")
        return self.args[0]

    @property
    def __func__(self) -> Any:
        return self.func

    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        return self

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.func is other.func and [*map(id, self.args)] == [*map(id, other.args)]

    def __hash__(self) -> int:
        return hash((self.func, *map(id, self.args)))

    def __reduce__(self) -> Any:
        if self.args:
            return getattr, (self.args[0], self.func.__name__)
        return vars(self)["decorator"], (self.aio,)

    def __repr__(self) -> str:
        return f"<sync form of {self.aio!r}>"


class Method(Converted):
    """What a class body has (by 2). An instance gets it bound; the class itself gets the plain function."""

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What `isinstance` and the like take it for. pydantic takes all in the body of a model for a field that is no
        function and not of functools. unittest.mock leaves `self` out of the signatures of functions only, and
        cloudpickle would pickle a function in its place."""
        asker = sys._getframe().f_back  # None where C code asks in a thread that runs no Python code yet
        is_asked_by_mock = asker is not None and asker.f_globals.get("__name__") == "unittest.mock"
        return types.FunctionType if is_asked_by_mock and type(self) is Method else functools.partial

    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        return self.func if instance is None else Converted(self.func, instance)

    def __reduce__(self) -> Any:
        # By name if that finds this very object, as it does below `@staticmethod`. But cloudpickle pickles a
        # class of the main script by value, and there is no such name where it arrives.
        is_by_value = self.func.__module__ == "__main__" and "cloudpickle" in sys.modules
        if not is_by_value and _named(self.func, getattr) is self:
            return self.func.__qualname__
        return _found, (type(self), self.func)


class ClassMethod(Method):
    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        return Converted(self.func, type(instance) if owner is None else owner)


class StaticMethod(Method):
    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        return self.func


def _named(function: Any, get: Any) -> Any:
    """What is found in the function's module under its qualified name, or None."""
    holder: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        holder = get(holder, name, None)
    return holder


def _found(kind: type[Method], function: Any) -> Any:
    """The method that holds this function here. A new one for a function that was pickled by value."""
    held = _named(function, inspect.getattr_static)
    return held if isinstance(held, Method) and held.func is function else kind(function)


def standing_for(fn: Any, body: Any) -> Any:
    """A function that does what `body` does, and looks like `fn` to everybody who asks.

    It has no `__wrapped__`, since frameworks would follow that and take it for async. So it has itself what
    they look for there: the signature, the globals in which annotations are looked up, and the place of the
    source.
    """
    original = inspect.unwrap(fn)
    code, namespace = body.__code__, body.__globals__
    if isinstance(original, types.FunctionType):
        namespace = original.__globals__
        at = original.__code__
        code = code.replace(
            co_filename=at.co_filename,
            co_firstlineno=at.co_firstlineno,
            co_linetable=_first_line_only(len(code.co_code) // 2),
            co_name=at.co_name,
            co_qualname=at.co_qualname,
        )
    made = types.FunctionType(code, namespace, code.co_name, None, body.__closure__)
    functools.update_wrapper(made, fn)
    # `update_wrapper` has set `__wrapped__`, and copied the marks by which asyncio and inspect know a
    # function as async that is not an `async def`.
    for name in ("__wrapped__", "_is_coroutine", "_is_coroutine_marker"):
        vars(made).pop(name, None)
    if isinstance(fn, types.FunctionType):
        cast("Any", made).__signature__ = Signature.of(fn)
    else:
        with contextlib.suppress(TypeError, ValueError):  # a function written in C may have no signature
            cast("Any", made).__signature__ = _signature(fn)
    return made


def _signature(fn: Any) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        import annotationlib

        return inspect.signature(fn, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(fn)


class Signature(inspect.Signature):
    """A function's signature, looked up when somebody asks for it: that takes longer than all the rest of
    `standing_for`, and a class with hundreds of methods has a twin within milliseconds."""

    __slots__ = ("_of",)
    _of: Any

    @classmethod
    def of(cls, fn: Callable[..., Any]) -> Signature:
        made = cls.__new__(cls)
        made._of = fn
        return made

    def __getattr__(self, name: str) -> Any:
        # Asked for what is not there yet: the two attributes that a signature is made of.
        if name not in ("_parameters", "_return_annotation"):
            raise AttributeError(name)
        found = _signature(self._of)
        inspect.Signature.__init__(
            self, [*found.parameters.values()], return_annotation=found.return_annotation
        )
        return getattr(self, name)


@functools.cache  # there are as many lengths as bodies in this package
def _first_line_only(units: int) -> bytes:
    """A table of lines, in the format of CPython's Objects/locations.md, by which all instructions, so many code units,
    are of the first line.

    With the table of `body`, tracebacks would show whatever lines have those numbers in the original's
    source.
    """
    counts = [8] * (units // 8) + [units % 8] * (units % 8 > 0)
    return b"".join(bytes([0x80 | 13 << 3 | count - 1, 0]) for count in counts)
