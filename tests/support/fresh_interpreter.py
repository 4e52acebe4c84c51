"""Code in an interpreter of its own: what it imports and prints is nobody else's doing."""

from __future__ import annotations

import subprocess
import sys
from typing import List


def printed(code: str) -> List[str]:
    """The lines that the code prints; it finds what this process finds."""
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{code}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    return done.stdout.splitlines()
