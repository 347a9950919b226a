"""What is asked of arguments everywhere, and what is said of those that are wrong.

An error names the argument and says what to write.
"""

from __future__ import annotations

import difflib
import inspect
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
#: Named when one was written without its name.
_NAMES_SHOWN = 2


def is_whole(value: object) -> bool:
    """Return whether it is a number as one counts: True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether it is a number as one measures."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def flag(name: str, value: object) -> None:
    """Raise `TypeError` for what is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: write {name}=True, or leave it out")


def not_asynchronous(text: str, function: object) -> None:
    """Raise `TypeError` for a function that returns a coroutine, as nobody would wait for it."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an object, its method
    ):
        raise TypeError(
            f"{text}: it is called inside the server, which waits for nothing; write def"
        )


def duration(name: str, value: object) -> None:
    """Raise `TypeError` or `ValueError` for what is no time that one can wait."""
    if not is_number(value):
        raise TypeError(f"{name}={value!r}: write a number of seconds, as in {name}=5")
    if not value >= 0:  # type: ignore[operator]
        raise ValueError(f"{name}={value!r}: that takes seconds, 0 or more")


def by_name(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Have a method say what to write when an argument came without its name."""
    parameters = list(inspect.signature(function).parameters.values())
    named = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    most = len(parameters) - len(named)
    names = [each.name for each in parameters if each.name != "self"]

    @wraps(function)
    def call(*given: Arguments.args, **by_names: Arguments.kwargs) -> Result:
        __tracebackhide__ = True
        if len(given) > most:
            value: Any = given[most]
            instead = " or ".join(f"{name}={value!r}" for name in named[:_NAMES_SHOWN])
            raise TypeError(f"{function.__name__}() got {value!r} without a name: write {instead}")
        for name in by_names.keys() - names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}=?" if near else f"it has {', '.join(names)}"
            raise TypeError(f"{function.__name__}() has no argument {name!r}; {hint}")
        return function(*given, **by_names)

    return call
