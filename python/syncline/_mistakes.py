"""Messages about wrong use that can be seen before anything is called.

Each function returns a message, or None if nothing is wrong. The public function that was called raises the
error itself, so that the traceback shows no other frame of ours.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, Final

from ._dual import DualContextManager
from ._kinds import REQUIRED, closed_if_coroutine, inside, is_async_fn, is_async_gen_fn, name_of, type_of

_MADE_BY_CONTEXTLIB: Final = contextlib.asynccontextmanager(lambda: None).__code__  # type: ignore[arg-type, return-value]
_dual: Any = DualContextManager
_DECORATING: Final = (
    contextlib.ContextDecorator.__call__,
    contextlib.AsyncContextDecorator.__call__,
    _dual.__call__,
)


def decorating(decorator: str, fn: Any) -> str | None:
    """What is wrong with decorating `fn` with one of the bridge's decorators."""
    if fn is REQUIRED:
        return without_function(decorator)
    inner = inside(fn)
    name = name_of(inner)
    if (mistake := _made_already(decorator, inner, name)) is not None:
        return mistake
    if not callable(inner):
        if hasattr(type_of(inner), "__get__"):  # a property, or one that keeps its value
            kind = type_of(inner).__name__
            return f"{decorator}() got a {kind}; decorate the function in it: @{kind} above @{decorator}"
        return f"{decorator}() takes an async function, not {type(fn).__name__}"
    if decorator != "contextmanager" and getattr(inner, "__code__", None) is _MADE_BY_CONTEXTLIB:
        return (
            f"{decorator}() got {name!r}, which makes an async context manager; use @syncline.contextmanager in the "
            f"place of @asynccontextmanager, or enter what it makes: with enter({name}(...)) as value"
        )
    if isinstance(inner, type) and (
        _makes_plain_objects(inner) or (decorator == "synced" and _is_client(inner))
    ):
        return f"{decorator}() got the class {name!r}{_for_a_class(decorator, inner)}"
    if (
        decorator == "synced"
        and inspect.isroutine(aio := getattr(inner, "aio", None))
        and not is_async_fn(inner)
    ):
        return f"synced() got {name!r}, which it has made of the async function {aio.__name__!r}; use it as it is"
    if inspect.isgeneratorfunction(inner):
        return f"{decorator}() got the sync generator function {name!r}; make it `async def`, or call it as it is"
    if decorator == "sync_compatible":
        return _sync_compatible(name, inner)
    what, right = "", ""
    if decorator == "coroutine" and inspect.isasyncgenfunction(inner):
        what, right = "an async generator function", "syncline.generator"
    elif decorator in ("iterator", "generator") and inspect.iscoroutinefunction(inner):
        what, right = "a coroutine function", "syncline.coroutine"
    elif decorator == "contextmanager" and inspect.iscoroutinefunction(inner):
        what, right = "a coroutine function", "`yield` in it"
    return f"{decorator}() got {name!r}, which is {what}; use {right}" if what else None


def without_function(decorator: str) -> str:
    """What is wrong with a decorator that was called without the function."""
    return (
        f"{decorator}() was given no function; write @{decorator}, without parentheses, or {decorator}(fetch)"
    )


def _made_already(decorator: str, given: Any, name: str) -> str | None:
    """What is wrong with what a call of the function has made, in the place of the function."""
    if closed_if_coroutine(given):
        return f"{decorator}() got a coroutine; give it the async function itself: {decorator}({name})"
    if inspect.isasyncgen(given):
        return (
            f"{decorator}() got an async generator; give it the function that makes it: {decorator}({name})"
        )
    return f"{decorator}() got {_a_manager(given)}" if _only_decorates(given) else None


def _only_decorates(given: Any) -> bool:
    """Whether it is a context manager that can be called, but only to decorate a function."""
    return getattr(type_of(given), "__call__", None) in _DECORATING  # noqa: B004 -- the method is wanted


def _a_manager(given: Any) -> str:
    if hasattr(type_of(given), "__enter__"):
        return "a context manager; enter it as it is, by `with`"
    return f"an async context manager; enter it: with enter({name_of(getattr(given, 'func', given))}(...)) as value"


def _for_a_class(decorator: str, cls: type) -> str:
    if not _has_async_members(cls):
        return f", which has nothing async; call it as it is: {cls.__name__}(...)"
    if decorator == "synced":
        return f"; for a class with the same methods, sync: blocking({cls.__name__})"
    return "; decorate its async methods, one by one"


def _has_async_members(cls: type) -> bool:
    from ._twins.surface import has_async_members

    return has_async_members(cls)


def _is_client(cls: type) -> bool:
    """Whether a class has async methods to be called, and not only objects that are awaited or entered."""
    from ._twins.surface import members

    return any(member.is_async and not member.name.startswith("__") for member in members(cls).values())


def making_a_twin(
    options: dict[str, Any], given: Any, of: Any, *, name: Any, names: Any, direct: Any, related: Any
) -> str | None:
    """What is wrong with `blocking(given, of=of, name=name, ...)` on a bridge with these options."""
    if of is not None and (given is not None or name is not None):
        return "blocking(of=Client) decorates a class, and takes its name; give it nothing else"
    of = given if of is None else of
    if of is None:
        return "blocking() takes an async class: blocking(Client)"
    if (mistake := living_on(options)) is not None:
        return mistake
    cls: type = of if isinstance(of, type) else type(of)
    if inspect.isroutine(of) or inspect.iscoroutine(of):
        name = name_of(of)
        is_manager = getattr(of, "__code__", None) is _MADE_BY_CONTEXTLIB
        right = f"enter({name}, ...)" if is_manager else f"synced({name})"
        right = "run(...)" if closed_if_coroutine(of) else right
        return f"blocking() takes a class, not the {cls.__name__} {name!r}; use {right}"
    if not isinstance(name, (str, type(None))):
        return f"name of blocking() is a string, not {name!r}"
    if not (names is None or hasattr(names, "keys")):
        return (
            f"names of blocking() maps names of the class to those of the twin, as a dict does, not {names!r}"
        )
    for option, value, example in (("direct", direct, "close"), ("related", related, "httpx")):
        if not hasattr(value, "__iter__"):
            return f"{option} of blocking() is names: {option}=[{example!r}], not {value!r}"
    if cls is not of and (said := "name" if name else "names" if names else "direct" if direct else ""):
        return f"{said} is said of a class: blocking({cls.__name__}, {said}=...); then blocking() of the object alone"
    if hasattr(cls, "_twin_family") or hasattr(cls, "__getattr__") or related or _has_async_members(cls):
        return None
    return f"blocking() got the class {cls.__name__!r}, which has nothing async; use it as it is"


def living_on(options: dict[str, Any]) -> str | None:
    """Why the objects of twins can't live on a bridge with these options."""
    if options.get("in_worker") != "sender":
        return None
    return (
        'the calls of a twin go where its object lives, and with in_worker="sender" they would not; make it with '
        "another bridge"
    )


def _sync_compatible(name: str, fn: Any) -> str | None:
    if is_async_gen_fn(fn):
        return (
            f"sync_compatible() got the async generator function {name!r}; use @syncline.iterator (for `for` and "
            "`async for`) or @syncline.synced (for `for`)"
        )
    if not is_async_fn(fn):
        return f"sync_compatible() takes an async function, and {name!r} is none; call it directly"
    return None


def _makes_plain_objects(cls: type) -> bool:
    """Whether what the class makes is surely nothing to await or to iterate over in async code."""
    call: Any = type(cls).__call__
    # That of `object`, or of another class that is written in C: it makes objects of the class.
    is_usual = call is type.__call__ and inspect.isbuiltin(cls.__new__)
    return is_usual and not (hasattr(cls, "__await__") or hasattr(cls, "__aiter__"))


def opting_in(fn: Any, made: Any) -> str:
    """What is wrong with `nestable(fn)`, whose call returned `made`, which can't be awaited."""
    name = name_of(fn)
    if inspect.isgenerator(made) or inspect.isasyncgen(made):
        return f"nestable() takes an async function, and {name!r} is a generator function, whose code has not run"
    return (
        f"nestable() takes an async function, and {name!r} is none: this call of it has run, and returned "
        f"{type_of(made).__name__}; for sync code: await run_nestable({name}, ...)"
    )


def no_function(caller: str, fn: Any, right: str) -> str:
    """What is wrong with giving `fn`, which can't be called, to `nestable` and the like. `right` is what to do with a
    coroutine."""
    if fn is REQUIRED:
        return without_function(caller)
    if closed_if_coroutine(fn):
        name = name_of(fn)
        return f"{caller}() got a coroutine; {right.format(name=name)}"
    return f"{caller}() takes a function, not {type_of(fn).__name__}"


def no_loop(caller: str, given: Any) -> str:
    """What is wrong with giving `install` this in the place of a loop."""
    kind = type_of(given).__name__
    closed_if_coroutine(given)
    return f"{caller}() takes an event loop of asyncio's, such as asyncio.get_running_loop(), not {kind}"


def running_in_threads(fn: Any, limiter: Any, kinds: tuple[type, ...]) -> str | None:
    """What is wrong with `threaded(fn, limiter=limiter)`, which takes limiters of these kinds."""
    if not (limiter is None or isinstance(limiter, kinds)):
        return (
            f"limiter of threaded() is a ThreadLimiter or a Worker, not {limiter!r}; for so many threads at a time: "
            "threaded(limiter=ThreadLimiter(4))"
        )
    if not callable(fn):
        return no_function("threaded", fn, "use it as it is: await {name}(...)")
    name = name_of(fn)
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        return f"threaded() takes sync functions, and {name!r} is async; call it as it is"
    return None


def making_a_resource(fn: Any) -> str | None:
    """What is wrong with making a resource of `fn`."""
    if fn is REQUIRED:
        return (
            "resource() was given no function that opens the object; write resource(open_it, close=...), or "
            "@resource without parentheses"
        )
    if closed_if_coroutine(fn):
        return f"resource() got a coroutine; give it the async function: resource({name_of(fn)})"
    if not callable(fn) or _only_decorates(fn):
        return (
            f"resource() takes the function that makes the object, not the {type(fn).__name__} itself, so that it is "
            "made where it is used: resource(lambda: ...)"
        )
    name = name_of(fn)
    if inspect.isgeneratorfunction(fn):
        return f"resource() got the sync generator function {name!r}; make it `async def`"
    try:
        inspect.signature(fn).bind()
    except TypeError as error:
        return (
            f"resource() calls {name!r} without arguments ({error}); wrap it: resource(lambda: {name}(...))"
        )
    except ValueError:  # a function written in C may have no signature
        pass
    return None


def making_a_bridge(args: tuple[Any, ...]) -> str:
    """What is wrong with `Bridge(*args)`."""
    if len(args) == 1 and args[0] in ("process", "thread", "caller"):
        return f'Bridge() takes keywords only: Bridge(scope="{args[0]}")'
    return f'Bridge() takes keywords only, such as scope="thread"; {args[0]!r} has none'


def unknown_option(options: dict[str, Any]) -> str:
    """What is wrong with `Bridge(**options)`, of which one is no option of a bridge."""
    import difflib

    from ._options import NAMES

    unknown = next(name for name in options if name not in NAMES)
    names = sorted(name for name in NAMES if not name.startswith("_"))
    if unknown == "timeout":
        return "a bridge has no option 'timeout'; a time limit is that of a call: run(fetch(...), timeout=5)"
    if near := difflib.get_close_matches(unknown, names, 1):
        return f"a bridge has no option {unknown!r}; did you mean {near[0]!r}?"
    return f"a bridge has no option {unknown!r}; it has {', '.join(names)}"


def pickling_a_bridge(options: dict[str, Any]) -> str | None:
    """What is wrong with pickling a bridge."""
    import pickle
    import sys

    if "cloudpickle" in sys.modules:  # it pickles more than pickle does, and has its own messages
        return None
    for name, value in options.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            return (
                f"this bridge can't be pickled, as its {name} can't: {error}; use one that can, such as a function "
                "that a module holds by its name, or make the bridge where it is used"
            )
    return None
