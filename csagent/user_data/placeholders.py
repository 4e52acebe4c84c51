"""$NAME and ${NAME} in a text that goes into a file, or jinja where its first line says so: as cloud-init."""

from __future__ import annotations

import re
from typing import Dict

from csagent.errors import DocumentError

_NAME = re.compile(r"\$\{([A-Za-z0-9_.]+)\}|\$([A-Za-z0-9_.]+)")


def fill(text: str, names: Dict[str, str]) -> str:
    """The text with the names' values.

    Raises:
        DocumentError: it has a name that is not known, or is a template that cannot be rendered.
    """
    if text.startswith("##"):
        from csagent.user_data import template

        first, _, rest = text.partition("\n")
        header = template.HEADER.match(first)
        if header is not None and header.group(1).strip().lower() != "basic":
            return template.render(text, dict(names)).text
        text = text if header is None else rest

    def value(found: "re.Match[str]") -> str:
        name = found.group(1) or found.group(2)
        if name not in names:
            # Not which one: it may be a piece of a password.
            raise DocumentError(f"it has a $NAME that is not known; known are {', '.join(names)}")
        return names[name]

    return _NAME.sub(value, text)
