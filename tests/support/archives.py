"""Support archives: made, unpacked and looked into."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any, Dict, Tuple, Union

import pytest

from csagent.cli import doctor
from csagent.cli.main import main
from csagent.doctor.bundle import bundle
from csagent.system.seams import System
from support.healthy_machine import Patient

NOW = 1_795_235_876.0


def contents(path: Path) -> Dict[str, bytes]:
    """Every file of an archive, by name; of a directory nothing."""
    with tarfile.open(path) as packed:
        streams = {one.name: packed.extractfile(one) for one in packed if one.isreg()}
        names = packed.getnames()
        read = {name: stream.read() for name, stream in streams.items() if stream is not None}
    return {name: read.get(name, b"") for name in names}


def unpack(content: bytes, directory: Path) -> Path:
    """What is in an archive, in a new directory."""
    directory.mkdir()
    with tarfile.open(fileobj=io.BytesIO(content)) as packed:
        packed.extractall(directory, filter="data")
    return directory


def archive_of(patient: Patient, destination: Path) -> Dict[str, bytes]:
    """Make the archive of a machine; return what is in it."""
    bundle.write(patient.examined(), str(destination), doctor.documents)
    return contents(destination)


def run(root: Path, *words: object) -> Tuple[int, Dict[str, Any]]:
    """Exit code and JSON of a command on a tree."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.stdout", said)
        code = main(["--root", str(root), *map(str, words), "--json"])
    document: Dict[str, Any] = json.loads(said.getvalue())
    return code, document


def put(root: Path, path: str, content: Union[str, bytes], mtime: float = NOW) -> Path:
    """Write a file of a tree, its directories too."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.utime(file, (mtime, mtime))
    return file


def record(root: Path) -> System:
    """Make a tree a recorded one."""
    put(root, "recorded.json", json.dumps({"now": NOW, "commands": {}}))
    return System.at(str(root))


def blocks(extra: str = "") -> str:
    """A lease of dhclient's."""
    return (
        f'lease {{\n  interface "eth0";\n  fixed-address 10.1.1.42;\n{extra}'
        "  option dhcp-server-identifier 10.1.1.1;\n  option routers 10.1.1.1;\n"
        "  expire 5 2162/01/01 00:00:00;\n}\n"
    )
