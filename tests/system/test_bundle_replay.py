"""A support archive of a running machine, replayed elsewhere: real dnsmasq, real dhclient, no VM."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest
from support.debian_image import Installed
from support.network_segment import Guest, Segment
from support.vm_cloud import PASSWORD, describe

pytestmark = [pytest.mark.netns, pytest.mark.root]

SERVER, GATEWAY, ADDRESS = "10.2.2.2", "10.2.2.1", "10.2.2.42"
PLANTED = "EXAMPLE-planted-marker"


def replayed(root: Path, *words: str) -> Dict[str, Any]:
    """What a command says of an unpacked archive, on this machine."""
    command = [sys.executable, "-m", "csagent", "--root", str(root), *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.stderr == "", done.stderr
    document: Dict[str, Any] = json.loads(done.stdout)
    return document


def test_archive_of_a_machine_replays_elsewhere(image: Installed, tmp_path: Path) -> None:
    """Leases, candidates, the outcome and time of each, and every finding are the machine's; no secret is."""
    guest = Guest(image, tmp_path / "guest")
    try:
        segment = Segment(tmp_path, guest, [SERVER, GATEWAY])
        try:
            segment.dhcp(SERVER, ADDRESS, GATEWAY, "web-01", data_server=SERVER)
            router = segment.router(describe("web-01", 1), SERVER, port=80, password_port=8080)
            guest.do("dhclient", "-1", "eth0")
            guest.csagent("apply")
            for path in ("/root/secret", "/etc/environment", "/var/lib/csagent/instances/x.user-data"):
                guest.write(path, f"TOKEN={PLANTED}\n")
            guest.write("/etc/ssh/sshd_config.d/50-owner.conf", f"SetEnv TOKEN={PLANTED}\n# {PLANTED}\n")
            guest.write("/etc/csagent/csagent.yaml", f"# {PLANTED}\npoll: 600\n")
            leases = guest.read("/var/lib/dhcp/dhclient.leases")
            odd = f'  option routers {GATEWAY}; # {PLANTED}\n  option unknown-252 "{PLANTED}";\n}}\n'
            guest.write("/var/lib/dhcp/dhclient.leases", leases.rstrip().rstrip("}") + odd)
            guest.do("ln", "-s", "/etc/shadow", "/var/lib/dhcp/dhclient.eth9.leases")
            asked = len(router.acknowledged)
            found = guest.csagent("discover")
            done = guest.run("csagent", "doctor", "--json", "--bundle", "/root/support.tar.gz")
            report = json.loads(done.stdout)
            assert "wrote /root/support.tar.gz" in done.stderr
            assert len(router.acknowledged) == asked
            shadow = guest.shadow()
        finally:
            segment.close()
        archive = tmp_path / "guest/upper/root/support.tar.gz"
        assert stat.S_IMODE(archive.stat().st_mode) == 0o600
        unpacked = tmp_path / "unpacked"
        unpacked.mkdir()
        subprocess.run(["tar", "-xpf", archive, "-C", unpacked], check=True, timeout=600)
    finally:
        guest.close()

    left_out = (unpacked / "_doctor/left-out.txt").read_text()
    assert "not run as root" not in left_out and "dhclient.eth9.leases" not in left_out
    again = replayed(unpacked, "discover")
    assert again["leases"][0]["server_identifier"] == SERVER
    assert again == found, left_out
    elsewhere = replayed(unpacked, "doctor")
    outcomes = {place["place"]: place["outcome"] for place in elsewhere["places"]}
    assert outcomes[f"router {SERVER}"] == "ok" and outcomes[f"router {GATEWAY}"] == "refused"
    assert elsewhere["places"] == report["places"]
    assert elsewhere["findings"] == report["findings"]
    assert elsewhere["recorded"]["what"] == report["what"] == "machine" and report["recorded"] is None
    assert {**elsewhere, "what": "machine", "recorded": None} == report
    assert {"leases", "network", "settings"}.isdisjoint(elsewhere["recorded"]["areas"])
    kept = json.loads((unpacked / "_doctor/report.json").read_text())
    assert kept == report  # nothing that csagent itself says of such a machine is taken out

    whole = b"".join(path.read_bytes() for path in unpacked.rglob("*") if path.is_file())
    key = router.cloud.ssh_keys[0].split()[1]
    for secret in (PASSWORD, PLANTED, shadow, shadow.rsplit("$", 1)[1], key):
        assert secret.encode() not in whole
    names = [os.path.relpath(path, unpacked) for path in unpacked.rglob("*")]
    assert not [name for name in names if "instances" in name or "secret" in name]
