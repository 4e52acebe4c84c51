"""Images that hang or bloat the library that reads them, each in the child that csagent reads drives in."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from csagent.lab import drive as lab
from csagent.sources.drive import device

ROOT = Path(device.__file__).parents[3]
IMAGES = sorted((ROOT / "tests/fixtures/iso").glob("*.iso"))
OUTCOMES = {"ok", "absent", "malformed", "foreign", "failed"}
SECONDS = 60.0  # the limit of processor time ends it after three of those, however slow the machine is

# A process of its own, since pytest's is too large for the limits; in it, what the agent does.
PROGRAM = """
import json, resource, sys
from csagent.sandbox import jail
from csagent.errors import JailError, JailTimeout
from csagent.sources.drive import device
from csagent.system.seams import System

system = System.at("/")

def prepare(path):
    opened = device.open_place(system, path, given=True)
    device.warm_up(opened)
    return opened

def work(opened, say):
    reading, place = device.read(opened)
    return {"outcome": place.outcome, "detail": place.detail, "reading": reading is not None}

for path in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        who = jail.unprivileged()
        job = jail.Job("drive", system, lambda: prepare(path), work, jail.DRIVE, who)
        said = jail.run(job, SECONDS)
    except JailTimeout as error:
        said = {"outcome": "timeout", "detail": str(error), "reading": False}
    except JailError as error:
        said = {"outcome": "killed", "detail": str(error), "reading": False}
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({**said, "processor": processor}))
""".replace("SECONDS", str(SECONDS))


def read_jailed(*paths: Path) -> List[Dict[str, Any]]:
    """What became of each path, and that nothing was written to the terminal."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=(SECONDS + 1) * len(paths) + 60,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_good_drive_is_read_within_the_limits(tmp_path: Path) -> None:
    """The same limits do not keep a real drive from being read: 1 MiB of user-data, 200 keys."""
    files = {f"cloudstack/metadata/key{number}.txt": b"x" * 100 for number in range(200)}
    path = tmp_path / "drive.iso"
    path.write_bytes(lab.image({**files, "cloudstack/userdata/user_data.txt": os.urandom(1 << 20)}))
    (said,) = read_jailed(path)
    assert (said["outcome"], said["reading"]) == ("ok", True), said
    assert "1048576 bytes of user-data" in said["detail"]


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_a_hostile_image_costs_one_child_and_a_few_seconds(path: Path) -> None:
    """It ends with a reason, or with the child: with no traceback, and in few seconds of a processor."""
    (said,) = read_jailed(path)
    assert said["outcome"] in OUTCOMES | {"killed", "timeout"}
    assert said["detail"] and "\n" not in said["detail"]
    assert said["processor"] < 5


def test_the_hostile_images_are_there() -> None:
    """Those of field/dependencies#3, each of which hung, bloated or crashed the library once."""
    assert len(IMAGES) >= 7


def test_mutants_of_a_drive_end_with_a_reason(tmp_path: Path) -> None:
    """120 images with flipped bytes, cut or doubled sectors: none of them leads out of the reader."""
    generator = random.Random(20)
    image = lab.image(
        {
            "cloudstack/metadata/vm-id.txt": b"3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e5f",
            "cloudstack/metadata/local-hostname.txt": b"web01",
            "cloudstack/password/vm_password.txt": b"EXAMPLE-pw",
            "openstack/latest/meta_data.json": b"{}",
        }
    )
    paths = []
    for number in range(120):
        mutant = bytearray(image)
        for _ in range(generator.randrange(1, 12)):
            # Most of the structure stands in the first descriptors, path tables and directories.
            offset = generator.randrange(16 * 2048, min(len(mutant), 48 * 2048))
            mutant[offset] = generator.choice([0, 1, 0x7F, 0xFF, generator.randrange(256)])
        if generator.random() < 0.2:
            del mutant[generator.randrange(17 * 2048, len(mutant)) :]
        if generator.random() < 0.2:
            source = generator.randrange(16, len(image) // 2048)
            target = generator.randrange(17, max(18, len(mutant) // 2048))
            mutant[target * 2048 : (target + 1) * 2048] = image[source * 2048 : (source + 1) * 2048]
        path = tmp_path / f"{number}.iso"
        path.write_bytes(mutant)
        paths.append(path)
    said = read_jailed(*paths)
    assert len(said) == len(paths)
    assert {one["outcome"] for one in said} <= OUTCOMES | {"killed", "timeout"}
    assert not [one for one in said if "EXAMPLE" in one["detail"] or "could not be read" in one["detail"]]
    assert sum(one["reading"] for one in said) > 5  # the good part of a damaged drive is still used
    assert sum(not one["reading"] for one in said) > 5
