"""What the simulated CloudStack knows of a VM, and ways to look at what came of it."""

from __future__ import annotations

import base64
import ctypes
import struct
from pathlib import Path

from image import run

from csagent.lab import drive as lab_drive
from csagent.lab.router import Cloud, LabRouter

PASSWORD = "marker-Pw1EXAMPLE"
NEXT_PASSWORD = "marker-Pw2EXAMPLE"
MARKER = "/marker/shadow-changed"  # requested by tests/vm/guest/csagent-test-shadow
# CloudStack's own arguments (facts, section 6.1).
GENISOIMAGE = (
    *("-ldots", "-allow-lowercase", "-allow-multidot", "-cache-inodes", "-l"),
    *("-quiet", "-J", "-r", "-V", "config-2"),
)


def ed25519(seed: int, comment: str) -> str:
    """A well-formed public key line; nobody has the private half."""
    kind = b"ssh-ed25519"
    blob = struct.pack(f">I{len(kind)}sI32s", len(kind), kind, 32, bytes([seed]) * 32)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {comment}"


def hash_verifies(password: str, value: str) -> bool:
    """Whether a shadow field is this password's, by this machine's libcrypt."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    made = library.crypt(password.encode(), value.encode())
    return bool(made == value.encode())


def make_drive(directory: Path, cloud: Cloud) -> Path:
    """A config drive made as CloudStack makes it: genisoimage on a directory."""
    tree = directory / "config-drive"
    for name, content in lab_drive.files_for(cloud).items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    image = directory / "config-drive.iso"
    run(["genisoimage", "-o", image, *GENISOIMAGE, tree], 60)
    return image


def describe(hostname: str, number: int) -> Cloud:
    """A VM with two keys and a password that waits for it."""
    return Cloud(
        instance_id=f"3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e{number:02x}",
        hostname=hostname,
        ssh_keys=(ed25519(number, f"alice@{hostname}"), ed25519(number + 100, f"bob@{hostname}")),
        password=PASSWORD,
        user_data=b"#!/bin/sh\necho EXAMPLE\n",
    )


def told_after_change(router: LabRouter) -> bool:
    """Whether PAM reported the new shadow entry before the password was acknowledged."""
    asked = [request.what for request in router.requests]
    return (
        MARKER in asked
        and "saved_password" in asked[asked.index(MARKER) :]
        and ("saved_password" not in asked[: asked.index(MARKER)])
    )
