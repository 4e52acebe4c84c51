"""Mutated and hostile config drives: a seeded slice of `./dev fuzz`, and what stands beside such a drive."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
from support.replace_fields import replace
from support.samples import INSTANCE, make_key

from csagent.apply import libcrypt
from csagent.lab import drive as lab
from csagent.lab.cloud import Cloud
from csagent.model import Secret

ROOT = Path(__file__).resolve().parents[2]
IMAGES = sorted((ROOT / "tests/fixtures/iso").glob("*.iso"))
PASSWORD = "EXAMPLE-marker-fuzz"


def fuzz(*words: str) -> Tuple[int, str, Dict[str, str]]:
    """Run the fuzzer as `./dev fuzz` does; its status, output, and the numbers of its last line."""
    command = [sys.executable, "-I", str(ROOT / "tests/fuzz/drives.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.stderr == ""
    words_of_it = done.stdout.splitlines()[-1].split()[1:]
    return done.returncode, done.stdout, dict(word.split("=", 1) for word in words_of_it)


def test_a_slice_of_mutants_breaks_nothing(tmp_path: Path) -> None:
    """350 mutants: no traceback, no child past its deadline or limit, no value from outside the drive."""
    code, said, numbers = fuzz("--seed", "4", "--count", "350", "--keep", str(tmp_path))
    assert code == 0, said
    assert numbers["failures"] == "0" and list(tmp_path.iterdir()) == []
    # Mutants must be neither all dead nor all whole.
    assert int(numbers["count"]) == 350 and int(numbers["ok"]) > 3 and int(numbers["malformed"]) > 10, said


def test_a_mutant_is_the_same_each_time(tmp_path: Path) -> None:
    """`--only N` makes mutant N of the seed again, and keeps it."""
    made = []
    for run in ("first", "second"):
        code, said, _numbers = fuzz("--seed", "4", "--only", "7", "--keep", str(tmp_path / run))
        assert code == 0, said
        (shape,) = [line.partition(" (")[0] for line in said.splitlines() if line.startswith("7: ")]
        made.append((shape, (tmp_path / run / "4-7.iso").stat().st_size))
    assert made[0] == made[1] and made[0][1] > 0


@pytest.mark.parametrize(("late", "failures"), [(1, 0), (2, 0), (3, 1), (9, 1)])
def test_what_is_late_once_is_read_again(monkeypatch: pytest.MonkeyPatch, late: int, failures: int) -> None:
    """On a busy machine the fuzzer itself may be late; who is late each time is past its deadline."""
    monkeypatch.syspath_prepend(str(ROOT / "tests/fuzz"))
    import drives

    verdicts = [drives.Verdict("deadline", [f"took 9.9 s, {drives.LATE}"], 9.9, False)] * late
    verdicts.append(drives.Verdict("deadline", [], 6.0, False))
    monkeypatch.setattr(drives.Bench, "_read", lambda *_arguments, **_words: verdicts.pop(0))
    bench = drives.Bench.__new__(drives.Bench)
    assert len(bench.read(b"", given=True).failures) == failures


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The oracle of the fuzzer."""
    monkeypatch.syspath_prepend(str(ROOT / "tests/fuzz"))
    import judge

    return judge


def test_the_judge_knows_what_is_on_a_drive(judge: Any) -> None:
    """Whole, escaped and in pieces; and what is not there, is not."""
    image = b'plain value {"key": "a\\nb", "name": "Gr\\u00F6\\u00dfe"} ' + b"x" * 2048 + b"-" + b"y" * 100
    for value in (b"plain value", b"a\nb", "Größe".encode(), b"x" * 2048 + b"y" * 100, b""):
        assert judge.is_on(image, value), value
    for value in (b"plain values", b"a\nc", "Grüße".encode(), b"root:x:0:0"):
        assert not judge.is_on(image, value), value


def test_the_judge_sees_what_must_not_be(judge: Any) -> None:
    """A value from outside, a path as a key, a wrong place, a reason of two lines: each is seen."""
    from csagent.model import PasswordOffer, Place, Reading
    from csagent.sources.checks import DriveNews

    image = b"here EXAMPLE-pw " + INSTANCE.encode()
    good = Reading("drive", "drive x", instance_id=INSTANCE, metadata={"key": "here"})
    told = Place("drive x", "fuzz", "ok", "1 metadata key")

    def said(reading: Any, place: Place = told) -> str:
        return "; ".join(judge.problems(image, DriveNews(reading, place), "drive x", (b"outside",)))

    assert said(good) == ""
    assert "not on the drive" in said(Reading("drive", "drive x", metadata={"key": "away"}))
    assert "outside the drive" in said(Reading("drive", "drive x", user_data=b"from outside"))
    assert "path" in said(Reading("drive", "drive x", metadata={"../key": "here"}))
    other = PasswordOffer("offered", Secret(b"EXAMPLE-other"), "drive x")
    assert "password" in said(Reading("drive", "drive x", password=other))
    assert "router" in said(Reading("router", "drive x"))
    assert "place" in said(good, Place("drive y", "fuzz", "ok"))
    caught = Place("drive x", "fuzz", "failed", "could not be read (KeyError)")
    assert "last net: KeyError" in said(None, caught)
    assert said(None, replace(caught, detail="could not be read (MemoryError)")) == ""
    assert "printable" in said(None, Place("drive x", "fuzz", "malformed", "two\nlines"))


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_a_good_router_beside_a_hostile_drive_is_applied(path: Path, tree: Path, servers: Any) -> None:
    """Hostname, keys and password of the router are set and acknowledged; the drive costs its reason only."""
    cloud = Cloud(INSTANCE, "web01", (make_key(1),), PASSWORD, b"#!/bin/sh\n")
    router = servers.lab(cloud)
    done = apply(tree, router, path)
    assert done.returncode in (0, 3), done
    report = json.loads(done.stdout)
    assert {datum: report["data"][datum]["state"] for datum in ("hostname", "ssh_keys", "password")} == {
        "hostname": "applied",
        "ssh_keys": "applied",
        "password": "applied",
    }
    assert (tree / "etc/hostname").read_text() == "web01\n"
    assert make_key(1) in (tree / "root/.ssh/authorized_keys").read_text()
    hashed = (tree / "etc/shadow").read_text().split(":")[1]
    assert libcrypt.matches(Secret(PASSWORD.encode()), hashed)
    assert len(router.acknowledged) == 1
    assert "Traceback" not in done.stderr and PASSWORD not in done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("genisoimage") is None, reason="genisoimage is not installed")
def test_symlinks_and_names_on_a_drive_do_not_lead_outside(tree: Path, servers: Any, tmp_path: Path) -> None:
    """Links to a file outside, and names with .. and slashes, give no byte of it; the rest is read."""
    outside = tmp_path / "outside-marker"
    outside.write_text("marker-EXAMPLE-outside")
    files = {
        "cloudstack/metadata/vm-id.txt": INSTANCE.encode(),
        "cloudstack/metadata/ab-cd-ef.txt": b"value",
        "cloudstack/userdata/other": b"",
    }
    made = tmp_path / "made"
    lab.build_tree(str(made), files)
    (made / "cloudstack/userdata/user_data.txt").symlink_to(outside)
    (made / "cloudstack/metadata/public-hostname.txt").symlink_to(f"../../../../../../../../..{outside}")
    (made / "cloudstack/password").symlink_to(tmp_path)
    path = tmp_path / "links.iso"
    command = ["genisoimage", "-quiet", "-J", "-r", "-l", "-V", "config-2", "-o", str(path), str(made)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=300)
    shutil.rmtree(made)
    image = path.read_bytes()
    assert image.count(b"ab-cd-ef.txt") == 1 and b"SL" in image
    path.write_bytes(image.replace(b"ab-cd-ef.txt", b"../../../a.b"))
    router = servers.lab(Cloud(INSTANCE, "web01", (make_key(1),), None, b""))
    done = apply(tree, router, path)
    assert done.returncode == 0, done
    (place,) = [one for one in json.loads(done.stdout)["places"] if one["place"].startswith("drive")]
    assert place["outcome"] == "ok" and "1 metadata key" in place["detail"], place
    kept = [one.read_bytes() for one in tree.rglob("*") if one.is_file() and one not in (outside, path)]
    marker = b"marker-EXAMPLE-outside"
    for text in (*kept, done.stdout.encode(), done.stderr.encode()):
        assert marker not in text and base64.b64encode(marker) not in text


def apply(tree: Path, router: Any, path: Path) -> "subprocess.CompletedProcess[str]":
    """One pass with both places given."""
    command = [sys.executable, "-m", "csagent", "--root", str(tree), "apply", "--json", "--drive", str(path)]
    command += ["--router", f"127.0.0.1:{router.port}", "--password-port", str(router.password_port)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, env={**os.environ, "COLUMNS": "80"}, check=False
    )
