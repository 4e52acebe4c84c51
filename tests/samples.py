"""Values that many tests use: an instance id, and keys that are keys but nobody's."""

from __future__ import annotations

import base64

INSTANCE = "3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e5f"


def make_key(number: int, comment: str = "ops@example") -> str:
    """A well-formed ed25519 public key; the same number gives the same key."""
    kind = b"ssh-ed25519"
    body = bytes([number]) * 32
    blob = len(kind).to_bytes(4, "big") + kind + len(body).to_bytes(4, "big") + body
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {comment}".strip()
