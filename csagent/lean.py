"""Libraries, loaded without what they bring along and we do not use.

The import is most of what a short-lived process costs. A module that a library imports and that what we want
of the library does not need is either blocked, where the library can do without it, or something of its name
stands in for it meanwhile. Where that fails, in whatever way, the library is loaded as it comes.

Whatever else is imported meanwhile sees, and keeps, the same: so nothing stands in for a module that others
use, too. (inspect is one: pycdlib would be a quarter lighter, and Python 3.14's logging broken.)
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable, Dict, Mapping, Optional, TypeVar

    T = TypeVar("T")


def loaded(load: Callable[[], T], others: Mapping[str, Optional[ModuleType]], own: str) -> T:
    """What `load` returns.

    Args:
        load: imports the library; called again where it fails.
        others: what is there, by name, in the place of other modules. None blocks one, now and later; a
            module stands in for one while `load` runs. What is imported already stays.
        own: packages, parted by blanks, that are imported anew where `load` fails.

    Raises:
        Exception: whatever `load` raises without any of this.
    """
    modules: Dict[str, Any] = sys.modules
    before = set(modules)
    put = {name: other for name, other in others.items() if name not in before}
    modules.update(put)
    try:
        result = load()
    except Exception:
        for name in set(modules) - before:
            if name in put or name.split(".")[0] in own.split():
                del modules[name]
        return load()
    for name, other in put.items():
        if other is not None:
            del modules[name]
    return result
