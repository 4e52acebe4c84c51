"""What lets somebody in goes last, as chosen, and only where it comes back."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Dict, Tuple

import pytest
from support.guests_to_seal import (
    CLOUD_INIT,
    DEBIAN,
    HASH,
    HOST_KEYS,
    MAC,
    UNIT,
    WANTED,
    look,
    paths,
    plant,
    seal,
)
from support.samples import make_key

from csagent.apply.authorized_keys import merge
from csagent.cli import seal as show
from csagent.seal import engine
from csagent.seal.context import Choice
from csagent.settings import Settings


def test_host_keys_stay_where_nothing_makes_new_ones(tmp_path: Path) -> None:
    """Without a unit that makes them sshd would never start: they stay, with the command that helps."""
    files = {name: text for name, text in DEBIAN.items() if name != UNIT}
    system = plant(tmp_path, files)
    report = seal(system)
    assert report.exit_code == 3 and report.count(engine.FAILED) == len(HOST_KEYS)
    assert all((tmp_path / name).exists() for name in HOST_KEYS)
    assert "systemctl enable csagent-host-keys.service" in show.failures(system, report)[0]
    assert any("sshd does not start" in warning.text for warning in report.warnings)
    plant(tmp_path, {UNIT: ""})
    assert seal(system).exit_code == 0 and look(system).warnings == ()


def test_links_to_host_keys_go_as_links(tmp_path: Path) -> None:
    """A host key that is a link would be shared by all instances; the link goes, its target stays."""
    system = plant(
        tmp_path, {UNIT: "", "usr/sbin/sshd": "", "data/key": "EXAMPLE", "etc/ssh/sshd_config": ""}
    )
    (tmp_path / "etc/ssh/ssh_host_rsa_key").symlink_to("/data/key")
    assert seal(system).exit_code == 0
    assert not (tmp_path / "etc/ssh/ssh_host_rsa_key").is_symlink()
    assert (tmp_path / "data/key").exists()


@pytest.mark.parametrize(
    ("chosen", "root_entry", "clean_before"),
    [
        ("lock", "root:*:19000:0:99999:7:::", False),
        ("expire", f"root:{HASH}:0:0:99999:7:::", False),
        ("keep", f"root:{HASH}:19000:0:99999:7:::", True),
    ],
)
def test_password_as_chosen(tmp_path: Path, chosen: str, root_entry: str, clean_before: bool) -> None:
    """lock leaves no hash, expire asks for a new one, keep says nothing; others' entries are warned of."""
    others = f"alice:{HASH}:19000:0:99999:7:::\nbob:*:1::::::\n"
    files = {
        UNIT: "",
        "etc/shadow": f"root:{HASH}:19000:0:99999:7:::\n{others}",
        "etc/hostname": "localhost\n",
    }
    system = plant(tmp_path, files)
    (tmp_path / "etc/shadow").chmod(0o640)
    choice = Choice(password=chosen)
    assert look(system, choice).clean is clean_before
    assert seal(system, choice).exit_code == 0
    text = (tmp_path / "etc/shadow").read_text()
    assert text == f"{root_entry}\n{others}"
    assert stat.S_IMODE((tmp_path / "etc/shadow").stat().st_mode) == 0o640
    report = look(system, choice)
    assert report.clean
    warned = [warning.text.split()[3] for warning in report.warnings]
    assert warned == (["root", "alice"] if chosen == "keep" else ["alice"])


def test_password_of_the_setting_user_is_sealed_too(tmp_path: Path) -> None:
    """The account that CloudStack's password is for gets the same; an empty password and a hidden hash go."""
    system = plant(tmp_path, {UNIT: "", "etc/shadow": f"root:!{HASH}:1::::::\nalice::1::::::\n"})
    assert engine.seal(system, Settings(user="alice"), Choice()).exit_code == 0
    assert (tmp_path / "etc/shadow").read_text() == "root:*:1::::::\nalice:*:1::::::\n"


def test_owners_keys_are_warned_of_and_go_when_asked(tmp_path: Path) -> None:
    """Lines that csagent did not write stay with a warning; --all-keys empties the file, mode kept."""
    file = "home/alice/.ssh/authorized_keys"
    system = plant(tmp_path, {UNIT: "", file: merge(make_key(7) + "\n", [make_key(1)])})
    (tmp_path / file).chmod(0o600)
    assert seal(system).exit_code == 0
    report = look(system)
    assert report.clean and [warning.path for warning in report.warnings] == [f"/{file}"]
    choice = Choice(all_keys=True)
    assert paths(look(system, choice)) == [f"/{file}"]
    assert seal(system, choice).exit_code == 0
    assert (tmp_path / file).read_text() == "" and look(system, choice).clean
    assert look(system, choice).warnings == ()


def test_what_binds_to_this_machine_is_warned_of(tmp_path: Path) -> None:
    """MAC addresses in network files, host keys elsewhere, an iSCSI name: left alone, and named."""
    system = plant(
        tmp_path,
        {
            UNIT: "",
            "etc/netplan/01.yaml": f"match: {{macaddress: '{MAC}'}}\n# {MAC[:-1]}9\n",
            "etc/ssh/sshd_config": "HostKey /etc/keys/mine\n#HostKey /etc/keys/other\n",
            "etc/keys/mine": "EXAMPLE",
            "etc/keys/other": "EXAMPLE",
            "etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.EXAMPLE\n",
        },
    )
    found = [warning.path for warning in look(system).warnings]
    assert found == ["/etc/netplan/01.yaml", "/etc/keys/mine", "/etc/iscsi/initiatorname.iscsi"]


def test_cloud_inits_network_files_stay_where_nothing_makes_them_anew(tmp_path: Path) -> None:
    """Without a working cloud-init its netplan file is the only one: left, and its MAC warned of."""
    files = {name: text for name, text in CLOUD_INIT.items() if name != "usr/bin/cloud-init"}
    system = plant(tmp_path, files)
    assert seal(system).exit_code == 0
    assert (tmp_path / "etc/netplan/50-cloud-init.yaml").exists()
    said = [warning.path for warning in look(system).warnings]
    assert said == ["/etc/netplan/50-cloud-init.yaml", "/etc/cloud", "/etc/netplan/50-cloud-init.yaml"]


NETPLAN = "etc/netplan/50-cloud-init.yaml"
OFF = "etc/cloud/cloud.cfg.d/99-disable-network-config.cfg"


@pytest.mark.parametrize(
    ("files", "network", "keys"),
    [
        ({}, True, True),
        ({"proc/cmdline": "quiet cloud-init=disabled", "run/cloud-init/disabled": ""}, True, True),
        ({OFF: "network: {config: disabled}\n"}, False, True),
        ({OFF: "network:\n  config: 'disabled' # ours\n"}, False, True),
        ({OFF: '"network": {"config": "disabled"}\n'}, False, True),
        ({OFF: "#network: {config: disabled}\n"}, True, True),
        ({"etc/cloud/cloud-init.disabled": ""}, False, False),
        ({"etc/systemd/system/cloud-init.service": ""}, False, False),
        ({"etc/cloud/ds-identify.cfg": "policy: disabled\n"}, False, False),
        ({"etc/cloud/cloud.cfg": "cloud_init_modules: [growpart]\n"}, True, False),
    ],
)
def test_cloud_init_counts_only_for_what_it_does(
    tmp_path: Path, files: Dict[str, str], network: bool, keys: bool
) -> None:
    """Network files and host keys go only where it will make them anew; a tree's /proc is not asked."""
    kept = {name: text for name, text in CLOUD_INIT.items() if name != UNIT}
    system = plant(tmp_path, {**kept, **files})
    assert seal(system).exit_code == (0 if keys else 3)
    assert (tmp_path / NETPLAN).exists() is not network
    assert all((tmp_path / name).exists() is not keys for name in HOST_KEYS)


@pytest.mark.parametrize(
    ("unit", "text", "goes"),
    [
        ("sshd-keygen@.service", "[Service]\n", True),
        ("sshd-keygen@.service", "", False),
        ("csagent-host-keys.service", "", False),
    ],
)
def test_masked_maker_of_host_keys_makes_none(tmp_path: Path, unit: str, text: str, goes: bool) -> None:
    """A unit that the administrator has masked, enabled or not, is no reason to remove the keys."""
    wanted = {UNIT: ""} if unit in UNIT else {f"usr/lib/systemd/system/{unit}": "[Service]\n"}
    files = {name: text for name, text in DEBIAN.items() if name != UNIT}
    system = plant(tmp_path, {**files, **wanted})
    mask = tmp_path / "etc/systemd/system" / unit
    mask.parent.mkdir(parents=True, exist_ok=True)
    mask.write_text(text) if text else mask.symlink_to("/dev/null")
    assert seal(system).exit_code == (0 if goes else 3)
    assert all((tmp_path / name).exists() is not goes for name in HOST_KEYS)


def test_enabled_unit_that_is_gone_makes_no_host_keys(tmp_path: Path) -> None:
    """The link that a removed package left behind starts nothing: the keys stay."""
    system = plant(tmp_path, DEBIAN)
    (tmp_path / "usr/lib/systemd/system/csagent-host-keys.service").unlink()
    assert seal(system).exit_code == 3
    assert all((tmp_path / name).exists() for name in HOST_KEYS)


@pytest.mark.parametrize(
    ("entry", "sealed"),
    [
        ("!abEXAMPLEmark", "*"),
        ("!!$6$EXAMPLE$marker", "*"),
        ("abEXAMPLEmark", "*"),
        ("!*", "*"),
        ("", "*"),
        ("!", "!"),
        ("!!", "!!"),
        ("*", "*"),
        ("*LK*", "*LK*"),
    ],
)
def test_hash_of_any_kind_goes_also_behind_a_lock(tmp_path: Path, entry: str, sealed: str) -> None:
    """`!` before a hash keeps it for `passwd -u`, and DES's has no `$`; a lock without any stays."""
    files = {UNIT: "", "etc/hostname": "localhost\n", "etc/shadow": f"root:{entry}:1::::::\n"}
    system = plant(tmp_path, files)
    assert look(system).clean is (entry == sealed)
    assert seal(system).exit_code == 0 and look(system).clean
    assert (tmp_path / "etc/shadow").read_text() == f"root:{sealed}:1::::::\n"


@pytest.mark.parametrize("chosen", ["lock", "expire", "keep"])
def test_copies_of_hashes_go_with_them(tmp_path: Path, chosen: str) -> None:
    """Those of passwd(1) and of Debian's daily job, unless passwords stay."""
    copies = ["etc/gshadow-", "etc/shadow-"]
    copies += [f"var/backups/{name}.bak" for name in ("group", "gshadow", "passwd", "shadow")]
    system = plant(tmp_path, {UNIT: "", **{name: f"root:{HASH}:\n" for name in copies}})
    assert seal(system, Choice(password=chosen)).exit_code == 0
    assert [(tmp_path / name).exists() for name in copies] == [chosen == "keep"] * len(copies)


OWN = "home/alice/.ssh/authorized_keys"


@pytest.mark.parametrize(
    ("files", "gone", "options", "told"),
    [
        ({}, (), {}, None),
        ({}, (WANTED,), {}, "systemctl enable csagent.service"),
        ({}, ("usr/lib/systemd/system/csagent.service",), {}, "not installed"),
        ({"etc/systemd/system/csagent.service": ""}, (), {}, "masked"),
        ({}, (), {"password": False, "ssh_keys": False}, "both false"),
        ({}, (), {"password": False}, None),
        ({OWN: make_key(7)}, (WANTED,), {}, None),
        ({"etc/shadow": f"alice:{HASH}:1::::::\n"}, (WANTED,), {}, None),
        (
            {"usr/bin/cloud-init": "", "etc/cloud/cloud.cfg": "cloud_init_modules: [ssh]\n"},
            (WANTED,),
            {},
            None,
        ),
    ],
)
def test_template_that_would_let_nobody_in_is_warned_of(
    tmp_path: Path,
    files: Dict[str, str],
    gone: Tuple[str, ...],
    options: Dict[str, bool],
    told: "str | None",
) -> None:
    """Passwords are locked, no key and no other password stays, and nothing sets any at the first boot."""
    system = plant(tmp_path, {UNIT: "", **files})
    for name in gone:
        (tmp_path / name).unlink()
    report = engine.look(system, Settings(**options), Choice(), "check")
    found = [one.text for one in report.warnings if one.text.startswith("nobody could log in")]
    assert [told is not None and told in text for text in found] == ([True] if told else [])
    kept = engine.look(system, Settings(**options), Choice(password="keep"), "check")
    assert not any(one.text.startswith("nobody could log in") for one in kept.warnings)
