"""Regular expressions that are compiled when they are first used.

Compiling one takes 0.1 to 0.4 ms, and of the fifty that csagent has, a process uses a few.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, Union


class _Lazy:
    """Stands for a compiled expression until it is asked for anything."""

    def __init__(self, text: Union[str, bytes], flags: int) -> None:
        self._text, self._flags = text, flags

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copy and pickle look for some before there is anything
            raise AttributeError(name)
        compiled = re.compile(self._text, self._flags)
        for method in ("findall", "finditer", "fullmatch", "match", "search", "split", "sub"):
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def expression(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """As `re.compile`; what is wrong with the expression is raised at its first use."""
    made: Any = _Lazy(text, flags)
    return made  # type: ignore[no-any-return]
