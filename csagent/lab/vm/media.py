"""What CloudStack has of a VM of these tests: keys, passwords, and the drive that carries them."""

from __future__ import annotations

import base64
import os
import shutil
import struct
import subprocess
from pathlib import Path

from csagent.errors import CsagentError
from csagent.lab import drive as lab_drive
from csagent.lab.cloud import Cloud

# CloudStack's own arguments (field/cloudstack#6.1).
GENISOIMAGE = (
    *("-ldots", "-allow-lowercase", "-allow-multidot", "-cache-inodes", "-l"),
    *("-quiet", "-J", "-r", "-V", "config-2"),
)


def ed25519(seed: int, comment: str) -> str:
    """A well-formed public key line; nobody has the private half."""
    kind = b"ssh-ed25519"
    blob = struct.pack(f">I{len(kind)}sI32s", len(kind), kind, 32, bytes([seed]) * 32)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {comment}"


def make_drive(directory: Path, cloud: Cloud) -> Path:
    """A config drive made as CloudStack makes it, by genisoimage on a directory; without it by pycdlib.

    Raises:
        CsagentError: the maker failed, or it cannot be written.
    """
    tree, image = directory / "config-drive", directory / "config-drive.iso"
    files = lab_drive.files_for(cloud)
    path = os.environ.get("PATH", "") + ":/usr/bin"
    maker = shutil.which("genisoimage", path=path)
    if maker is None:
        lab_drive.build(str(image), files)
        return image
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    words = [maker, "-o", str(image), *GENISOIMAGE, str(tree)]
    made = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    if made.returncode != 0:
        raise CsagentError(f"genisoimage failed: {' '.join(made.stderr.split())}")
    return image
