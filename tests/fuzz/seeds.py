"""Healthy config drives to make mutants of, in several shapes: genisoimage's, xorriso's and our own."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from typing import Dict, List, Mapping, Tuple

from csagent.lab import drive
from csagent.lab.cloud import Cloud

INSTANCE = "3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e5f"
EPOCH = 1700000000

# What CloudStack calls its ISO maker with (field/dependencies#3), less the trees.
COMMON = ("-ldots", "-allow-lowercase", "-allow-multidot", "-cache-inodes", "-l", "-quiet", "-V", "config-2")
MAKERS: Dict[str, Tuple[str, ...]] = {
    "genisoimage": ("genisoimage",),
    "xorriso": ("xorriso", "-as", "mkisofs"),
}
# Shape: the trees that the maker is told to write, and which files.
SHAPES: Dict[str, Tuple[Tuple[str, ...], str]] = {
    "both": (("-J", "-r"), "usual"),
    "rock-ridge": (("-r",), "usual"),
    "joliet": (("-J",), "usual"),
    "plain": ((), "usual"),
    "many": (("-J", "-r"), "many"),
    "deep": (("-J", "-r"), "deep"),
    "links": (("-J", "-r"), "links"),
}
TREES = {"both": (True, True), "rock-ridge": (True, False), "joliet": (False, True), "plain": (False, False)}


def _key(number: int) -> str:
    body = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes([number]) * 32
    return f"ssh-ed25519 {base64.b64encode(body).decode()} ops@example"


def files(kind: str) -> Dict[str, bytes]:
    """The files of a drive by path; `kind` is usual, many, deep or links."""
    metadata = {"service-offering": "Grö\u00dfe 1", "availability-zone": "zone-1", "local-ipv4": "10.1.1.10"}
    if kind == "many":
        metadata.update({f"custom-key-{number:03}": f"value {number}" for number in range(300)})
    cloud = Cloud(
        instance_id=INSTANCE,
        hostname="web01",
        ssh_keys=(_key(1), _key(2)),
        password="EXAMPLE-pw",
        user_data=b"#!/bin/sh\n" + b"echo EXAMPLE user-data\n" * 200,
        metadata=metadata,
    )
    made = drive.files_for(cloud)
    network = {"links": [{"id": "eth0", "type": "phy"}], "networks": [], "services": []}
    made["openstack/latest/network_data.json"] = json.dumps(network).encode()
    if kind == "deep":
        for depth in range(1, 14):
            made["/".join(["cloudstack", *(f"level-{one}" for one in range(depth)), "file.txt"])] = b"deep"
    return made


def make(directory: str, marker: str) -> Tuple[List[str], List[str]]:
    """Write the images into `directory` as NAME.iso.

    Args:
        directory: an existing one.
        marker: a file outside any drive; the symlinks of the shape `links` lead to it.

    Returns:
        The names of the images, and of the makers that are not installed.
    """
    names, missing = [], []
    for maker, command in MAKERS.items():
        if shutil.which(command[0]) is None:
            missing.append(maker)
            continue
        for shape, (trees, kind) in SHAPES.items():
            tree = os.path.join(directory, "tree")
            _write_tree(tree, files(kind), marker if kind == "links" else "")
            name = f"{maker}-{shape}"
            subprocess.run(
                [*command, *COMMON, *trees, "-o", os.path.join(directory, f"{name}.iso"), tree],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)},
                timeout=300,
            )
            shutil.rmtree(tree)
            names.append(name)
    for shape, (rock_ridge, joliet) in TREES.items():
        names.append(f"pycdlib-{shape}")
        image = drive.image(files("usual"), rock_ridge=rock_ridge, joliet=joliet)
        with open(os.path.join(directory, f"pycdlib-{shape}.iso"), "wb") as stream:
            stream.write(image)
    return names, missing


def _write_tree(tree: str, content: Mapping[str, bytes], marker: str) -> None:
    drive.build_tree(tree, content)
    if marker:
        for path, target in (
            ("cloudstack/metadata/absolute.txt", marker),
            ("cloudstack/metadata/relative.txt", "../../../../../../../.." + marker),
            ("cloudstack/metadata/inside.txt", "vm-id.txt"),
            ("cloudstack/elsewhere", "/etc"),
            ("cloudstack/loop", "."),
        ):
            os.symlink(target, os.path.join(tree, path))
    for top, directories, names in os.walk(tree):
        for name in [*directories, *names]:
            os.utime(os.path.join(top, name), (EPOCH, EPOCH), follow_symlinks=False)
