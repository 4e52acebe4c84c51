"""Whether a source of events has something to tell."""

from __future__ import annotations

import select
from typing import Any


def told(source: Any, seconds: float = 2.0) -> bool:
    """Whether it has news within that time; one that is readable for nothing has none."""
    while select.select([source], [], [], seconds)[0]:
        if source.news():
            return True
        seconds = 0.3
    return False
