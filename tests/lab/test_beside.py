"""Passes on a tree in which cloud-init works with CloudStack's data too, with each value of `cloud_init`."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import pytest
from support.command_line import Guest, data, places
from support.samples import PASSWORD, make_key

from csagent.lab.router import LabRouter

CONFIGURED = """\
disable_root: true
users: [default]
cloud_init_modules: [set_hostname, update_hostname, users-groups, ssh]
cloud_config_modules: [set-passwords]
system_info:
  default_user:
    name: debian
"""
CLOSED = (
    "no-port-forwarding,no-agent-forwarding,no-X11-forwarding,"
    'command="echo \'Please login as the user \\"debian\\" rather than the user \\"root\\".\';exit 142" '
)


@pytest.fixture
def guest(tree: Path) -> Guest:
    for path, text in (
        ("usr/bin/cloud-init", ""),
        ("usr/bin/wget", ""),
        ("etc/cloud/cloud.cfg", CONFIGURED),
        ("run/cloud-init/cloud.cfg", "datasource_list: [ CloudStack, None ]\n"),
        ("run/cloud-init/enabled", ""),
    ):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    return Guest(tree)


def say(guest: Guest, text: str) -> None:
    (guest.root / "etc/csagent").mkdir(exist_ok=True)
    (guest.root / "etc/csagent/csagent.yaml").write_text(text)


def keys(guest: Guest) -> Dict[str, int]:
    """How often the body of each key stands in the file, options or not."""
    text = guest.authorized()
    return {str(number): text.count(make_key(number).split()[1]) for number in (1, 2, 3)}


def test_auto_shares_the_work(guest: Guest, router: LabRouter) -> None:
    """The host name stays cloud-init's, keys it has written become ours, and a reset revokes them."""
    (guest.root / "root/.ssh").mkdir(mode=0o700)
    file = guest.root / "root/.ssh/authorized_keys"
    file.write_text(f"{CLOSED}{make_key(1)}\n{make_key(2)}\n{make_key(9, 'owner')}\n")
    planned = guest.run("plan", *places(router))
    assert "left to cloud-init (CloudStack)" in planned.out and guest.text("etc/hostname") == "debian\n"
    first = guest.run("apply", "--json", *places(router))
    assert first.code == 0, first
    assert data(first)["hostname"] == "off" and guest.text("etc/hostname") == "debian\n"
    assert guest.password_is(PASSWORD)
    assert "Please login" not in guest.authorized() and make_key(9, "owner") in guest.authorized()
    assert keys(guest) == {"1": 1, "2": 1, "3": 0}

    # On an instance's first boot cloud-init may come after us, and writes its lines over ours.
    file.write_text(guest.authorized().replace(make_key(1), CLOSED + make_key(1)))
    second = guest.run("apply", "--json", *places(router))
    assert data(second)["ssh_keys"] == "applied" and "Please login" not in guest.authorized()
    assert "may have taken it" in second.json["data"]["password"]["reason"]
    third = guest.run("apply", "--json", *places(router))
    assert data(third)["ssh_keys"] == "unchanged"

    file.write_text(f"{make_key(1)}\n{guest.authorized()}")
    router.change(ssh_keys=(make_key(3),))
    guest.run("apply", *places(router))
    assert keys(guest) == {"1": 0, "2": 0, "3": 1} and make_key(9, "owner") in guest.authorized()


def test_csagent_does_all(guest: Guest, router: LabRouter) -> None:
    """With `cloud_init: csagent` the host name is set too."""
    say(guest, "cloud_init: csagent\n")
    done = guest.run("apply", "--json", *places(router))
    assert done.code == 0 and set(data(done).values()) == {"applied"}
    assert guest.text("etc/hostname") == "web01\n" and guest.password_is(PASSWORD)


def test_all_is_left(guest: Guest, router: LabRouter) -> None:
    """With `cloud_init: cloud-init` nothing is set or acknowledged, until cloud-init is disabled."""
    say(guest, "cloud_init: cloud-init\n")
    done = guest.run("apply", "--json", *places(router))
    assert done.code == 0, done
    assert {datum: state for datum, state in data(done).items() if datum != "user_data"} == dict.fromkeys(
        ("hostname", "ssh_keys", "password"), "off"
    )
    assert "setting cloud_init" in guest.run("status").out
    assert router.acknowledged == [] and not guest.password_is(PASSWORD)
    assert not (guest.root / "root/.ssh").exists() and guest.text("etc/hostname") == "debian\n"
    (guest.root / "etc/cloud/cloud-init.disabled").touch()
    again = guest.run("apply", "--json", *places(router))
    assert set(data(again).values()) == {"applied", "unchanged"} and guest.password_is(PASSWORD)


def test_a_source_that_cloud_init_did_not_find(guest: Guest, router: LabRouter) -> None:
    """When cloud-init has given up in this boot, the next pass sets what was left to it."""
    assert data(guest.run("apply", "--json", *places(router)))["hostname"] == "off"
    (guest.root / "run/cloud-init/status.json").write_text('{"v1": {"datasource": "DataSourceNone"}}')
    assert data(guest.run("apply", "--json", *places(router)))["hostname"] == "applied"
    assert guest.text("etc/hostname") == "web01\n"
