"""`csagent seal` on trees by situation: what goes, what stays, and that the preview is what is then done."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Dict, List

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.guests_to_seal import (
    CLOUD_INIT,
    CONFIGURATION,
    DEBIAN,
    EL,
    HASH,
    HOST_KEYS,
    SITUATIONS,
    UNIT,
    Stamp,
    changed,
    look,
    paths,
    plant,
    seal,
    snapshot,
)
from support.samples import make_key

from csagent.apply.authorized_keys import merge
from csagent.cli import seal as show
from csagent.seal import engine
from csagent.seal.context import Choice
from csagent.seal.identity import without_our_line
from csagent.seal.leftovers import NAMES


@pytest.mark.parametrize("situation", sorted(SITUATIONS))
def test_preview_lists_exactly_what_is_then_done(tmp_path: Path, situation: str) -> None:
    """What changes are the paths of the preview, all of them and no other; then it is clean, and stays so."""
    system = plant(tmp_path, {**CONFIGURATION, **SITUATIONS[situation]})
    before = snapshot(tmp_path)
    preview = look(system, mode="preview")
    assert snapshot(tmp_path) == before and preview.exit_code == 0
    assert look(system).exit_code == 1

    report = seal(system)
    after = snapshot(tmp_path)
    assert report.exit_code == 0 and report.count(engine.DONE) == len(paths(preview))
    assert paths(report) == paths(preview)
    assert changed(before, after) == sorted(paths(preview))

    assert look(system).exit_code == 0 and look(system).clean
    assert seal(system).exit_code == 0 and snapshot(tmp_path) == after


@pytest.mark.parametrize("situation", sorted(SITUATIONS))
def test_every_leftover_of_the_situation_is_found(tmp_path: Path, situation: str) -> None:
    """No planted leftover is overlooked, and nothing that is configuration is taken for one."""
    system = plant(tmp_path, {**CONFIGURATION, **SITUATIONS[situation]})
    planted = {f"/{name}" for name in SITUATIONS[situation]} - {f"/{UNIT}", "/usr/sbin/sshd"}
    planted -= {"/usr/bin/cloud-init", "/etc/cloud/cloud.cfg", "/usr/lib/systemd/system/sshd-keygen@.service"}
    found = set(paths(look(system)))
    assert planted <= found
    assert not found & {f"/{name}" for name in CONFIGURATION}
    assert "/etc/hostname" in found


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mixture_becomes_clean(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever of it a machine has, sealing makes it clean, twice is once, and configuration stays."""
    pool = {**DEBIAN, **EL, **CLOUD_INIT}
    names = data.draw(st.lists(st.sampled_from(sorted(pool)), unique=True))
    keep = data.draw(st.frozensets(st.sampled_from(NAMES), max_size=3))
    root = tmp_path_factory.mktemp("mixture")
    chosen = {name: pool[name] for name in (*names, UNIT)}
    system = plant(root, {**CONFIGURATION, **chosen})
    before = snapshot(root)
    kept = paths(look(system, Choice(keep=keep)), *keep) if keep else []
    assert seal(system, Choice(keep=keep)).exit_code == 0
    after = snapshot(root)
    assert look(system, Choice(keep=keep)).clean
    assert seal(system, Choice(keep=keep)).count(engine.DONE) == 0 and snapshot(root) == after
    assert not set(changed(before, after)) & {*kept, *(f"/{name}" for name in CONFIGURATION)}


def test_files_end_as_a_new_instance_wants_them(tmp_path: Path) -> None:
    """machine-id and logs are empty with their modes, our lines are gone and the owner's stay."""
    files = {**DEBIAN, **EL, "root/.ssh/authorized_keys": merge(make_key(7) + "\n", [make_key(1)])}
    system = plant(tmp_path, files)
    (tmp_path / "var/log/wtmp").chmod(0o664)
    inode = (tmp_path / "var/log/wtmp").stat().st_ino
    assert seal(system).exit_code == 0
    assert (tmp_path / "etc/machine-id").read_bytes() == b""
    wtmp = (tmp_path / "var/log/wtmp").stat()
    assert (wtmp.st_size, stat.S_IMODE(wtmp.st_mode), wtmp.st_ino) == (0, 0o664, inode)
    assert (tmp_path / "etc/hostname").read_text() == "localhost\n"
    assert (tmp_path / "etc/hosts").read_text() == "127.0.0.1\tlocalhost\n10.0.0.1\tother\n"
    assert (tmp_path / "root/.ssh/authorized_keys").read_text() == make_key(7) + "\n"
    ifcfg = tmp_path / "etc/sysconfig/network-scripts/ifcfg-eth0"
    assert ifcfg.read_text() == "DEVICE=eth0\nBOOTPROTO=dhcp\n"
    keyfile = tmp_path / "etc/NetworkManager/system-connections/eth0.nmconnection"
    assert keyfile.read_text() == "[ethernet]\n[ipv4]\n"
    assert not (tmp_path / "var/log/journal/0123456789abcdef0123456789abcdef").exists()
    assert (tmp_path / "var/log/journal").is_dir()


def test_an_owners_line_that_ends_like_ours_stays() -> None:
    """Only the line with our address in front goes from /etc/hosts, and a line feed alone ends a line."""
    theirs = "127.0.0.1\tlocalhost\n# a\u2028127.0.1.1 b # csagent\n10.0.0.5 proxy # csagent\n"
    assert without_our_line(f"127.0.1.1\tweb01\t# csagent\n{theirs}") == theirs
    assert without_our_line(f"{theirs}127.0.1.1\tweb01\t# csagent") == theirs


def test_missing_machine_id_is_made_empty_where_systemd_is(tmp_path: Path) -> None:
    """Missing means a first boot to systemd, which asks for a locale; without systemd nothing is made."""
    system = plant(tmp_path, {UNIT: ""})
    assert "/etc/machine-id" not in paths(look(system))
    plant(tmp_path, {"usr/lib/systemd/systemd": ""})
    assert "/etc/machine-id" in paths(look(system))
    assert seal(system).exit_code == 0
    assert (tmp_path / "etc/machine-id").read_bytes() == b""
    assert look(system).clean


def test_planted_links_lead_nowhere(tmp_path: Path) -> None:
    """Links in homes, in /tmp, in logs: what they point to is untouched, in the tree and outside."""
    root, outside = tmp_path / "tree", tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep/known_hosts").write_text("x")
    (outside / ".bash_history").write_text("x")
    root.mkdir()
    system = plant(root, {UNIT: "", "etc/precious/known_hosts": "x", "tmp/keep/x": "x", "var/log/app/x": ""})
    home = root / "home/alice"
    (home / ".ssh").symlink_to("/etc/precious")
    (home / ".bash_history").symlink_to("/etc/passwd")
    (home / ".local").symlink_to(outside)
    (root / "home/evil").symlink_to(outside)
    (root / "tmp/link").symlink_to(outside / "deep")
    (root / "tmp/absolute").symlink_to("/etc")
    (root / "var/log/app/log").symlink_to("/etc/passwd")
    (root / "var/crash").symlink_to(outside)
    (root / "etc/udev/rules.d").mkdir(parents=True)
    (root / "etc/udev/rules.d/70-persistent-net.rules").symlink_to("/dev/null")
    before, passwd = snapshot(outside), (root / "etc/passwd").read_bytes()
    report = seal(system)
    assert report.exit_code == 0, show.failures(system, report)
    assert snapshot(outside) == before
    assert (root / "etc/passwd").read_bytes() == passwd
    assert (root / "etc/precious/known_hosts").exists() and (home / ".bash_history").is_symlink()
    assert list((root / "tmp").iterdir()) == []
    assert (root / "etc/udev/rules.d/70-persistent-net.rules").is_symlink()


def test_link_planted_between_look_and_deed_leads_nowhere(tmp_path: Path) -> None:
    """A user who exchanges a directory for a link while sealing runs makes the step fail, and that is all."""
    system = plant(tmp_path, {"home/alice/.ssh/known_hosts": "x", "etc/precious/known_hosts": "x"})
    (found,) = [
        step.leftover
        for family in look(system).families
        for step in family.steps
        if family.thing.name == "known-hosts"
    ]
    (tmp_path / "home/alice/.ssh").rename(tmp_path / "home/alice/before")
    (tmp_path / "home/alice/.ssh").symlink_to("../../etc/precious")
    with pytest.raises(OSError):
        found.act()
    assert (tmp_path / "etc/precious/known_hosts").exists()


def test_one_step_that_fails_costs_only_itself(tmp_path: Path) -> None:
    """A log with another name is not cut: it may be somebody's file; the rest is done, the code is 3."""
    system = plant(tmp_path, DEBIAN)
    (tmp_path / "srv").mkdir(exist_ok=True)
    os.link(tmp_path / "var/log/syslog", tmp_path / "srv/precious")
    report = seal(system)
    assert report.exit_code == 3 and report.count(engine.FAILED) == 1
    assert (tmp_path / "srv/precious").read_text() == "x"
    (line,) = show.failures(system, report)
    assert line.startswith(f"logs: {tmp_path}/var/log/syslog: it has another name")
    assert paths(look(system)) == ["/var/log/syslog"]
    assert seal(system).exit_code == 1


class PowerCut(Exception):
    """Stops sealing between two steps."""


def test_power_cut_at_any_step_leaves_a_way_in(tmp_path: Path) -> None:
    """Host keys go after the password, that after all else; and from wherever it stopped it goes on."""
    want: Dict[str, Stamp] = {}
    steps = len(paths(look(plant(tmp_path / "count", {**CONFIGURATION, **DEBIAN}))))
    for cut in [*range(1, steps, 5), steps - 1, steps]:
        root = tmp_path / f"cut{cut}"
        system = plant(root, {**CONFIGURATION, **DEBIAN})
        done: List[engine.Step] = []

        def stop(step: engine.Step, done: List[engine.Step] = done, cut: int = cut) -> None:
            done.append(step)
            if len(done) == cut:
                raise PowerCut

        with pytest.raises(PowerCut):
            seal(system, between=stop)
        left = look(system)
        last_ones = ("authorized-keys", "password", "host-keys")
        if set(paths(left)) - set(paths(left, *last_ones)):
            assert HASH in (root / "etc/shadow").read_text()
            assert all((root / name).exists() for name in HOST_KEYS)
        if paths(left, "password"):
            assert all((root / name).exists() for name in HOST_KEYS)
        assert seal(system).exit_code == 0
        want = want or snapshot(root)
        assert snapshot(root) == want
