"""MD5 and SHA-256 as CPython itself has them. `hashlib` would load OpenSSL: 3.5 MiB and 3 ms a process."""

from __future__ import annotations

from typing import Any


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return str(_made("_sha2", "_sha256", name="sha256")(content).hexdigest())


def md5(content: bytes) -> str:
    """In hexadecimal; for what CloudStack and its scripts say in it, not for security."""
    return str(_made("_md5", name="md5")(content, usedforsecurity=False).hexdigest())


def _made(*modules: str, name: str) -> Any:
    """The function of the first of these modules that is there: their names differ by version and builder."""
    import importlib

    for module in (*modules, "hashlib"):
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError:
            continue
    raise ImportError(name)
