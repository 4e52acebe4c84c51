"""The same fact but for some fields, of named tuples and dataclasses alike."""

from __future__ import annotations

import dataclasses
from typing import Any


def replace(fact: Any, **changes: Any) -> Any:
    """A copy of a fact with other values for these fields."""
    return fact._replace(**changes) if hasattr(fact, "_replace") else dataclasses.replace(fact, **changes)
