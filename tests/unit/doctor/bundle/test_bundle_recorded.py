"""What was found on the machine, as an archive tells it: shown and marked, whoever wrote it."""

import json
import shutil
from pathlib import Path

import pytest
from support.archives import archive_of, contents, run, unpack
from support.healthy_machine import NOW, SEEN, Patient
from support.replace_fields import replace

from csagent.cli import doctor
from csagent.cli.main import main
from csagent.doctor import engine
from csagent.doctor.bundle import bundle, recorded
from csagent.settings import Settings
from csagent.sources.request import Options
from csagent.system.seams import System

ARCHIVES = Path(__file__).resolve().parents[3] / "fixtures" / "archives"


@pytest.fixture
def patient(tmp_path):
    """A machine in good health."""
    return Patient(tmp_path / "machine")


def report(patient, **changes):
    """Change the report of a saved machine."""
    path = patient.root / recorded.REPORT[1:]
    document = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(document))
    return document


def test_an_area_without_files_is_as_it_was_found(patient, capsys):
    """sshd's settings are not in an archive: what was found out about them is, with time and version."""
    patient.sshd("permitrootlogin yes", "permitrootlogin no")
    patient.save()
    before = report(patient, version="0.9.9")
    patient.edit("/etc/ssh/sshd_config", "PermitRootLogin yes", "PermitRootLogin no # unlike then")
    assert main(["--root", str(patient.root), "doctor"]) == 1
    shown = capsys.readouterr().out
    assert " ".join(shown.split()).startswith(
        "(recorded): as csagent 0.9.9 found it on that machine at 2026-11-21 04:05:17 UTC;"
    )
    assert "sshd: problem (recorded)\n    PermitRootLogin no (sshd -T)" in shown
    assert "leases: ok\n" in shown and "last pass: ok\n" in shown
    _code, document = run(patient.root, "doctor")
    assert document["recorded"] == {
        "at": float(NOW),
        "version": "0.9.9",
        "what": "machine",
        "areas": [area for area, _check in engine.checks() if area not in recorded.JUDGED_AGAIN],
    }
    assert document["findings"] == before["findings"] and document["places"] == before["places"]


def test_what_is_raw_is_judged_again(patient):
    """Leases, addresses, DMI, the last pass and settings: their files count, not what was said of them."""
    patient.save()
    patient.write("/run/systemd/netif/leases/2", "ADDRESS=10.1.1.43\nSERVER_ADDRESS=10.1.1.1\n")
    patient.write("/sys/class/dmi/id/sys_vendor", "Amazon EC2\n")
    patient.write("/sys/class/dmi/id/product_name", "t3.nano\n")
    patient.write("/sys/class/net/eth0/carrier", "0\n")
    patient.write("/etc/csagent/csagent.yaml", "password: false\n")
    patient.edit("/run/csagent/status.json", "it was offered", "told otherwise")
    _code, document = run(patient.root, "doctor")
    shown = json.dumps(document["findings"])
    for words in ("Amazon EC2", "stale: 10.1.1.43", "no carrier", "password: false", "told otherwise"):
        assert words in shown
    assert not {*recorded.JUDGED_AGAIN} & {*document["recorded"]["areas"]}


def test_settings_that_were_wrong_are_as_they_were_found(patient):
    """Their files are not in an archive; the defaults, by which it is judged, are not said to be right."""
    patient.save()
    wrong = {"area": "settings", "state": "problem", "saw": "line 3: x", "means": "", "advice": "correct it"}
    before = report(patient)["findings"]
    report(patient, findings=[wrong if one["area"] == "settings" else one for one in before])
    code, document = run(patient.root, "doctor")
    assert code == 1 and wrong in document["findings"] and "settings" in document["recorded"]["areas"]


def test_places_and_what_they_said_are_the_machines(patient):
    """No source there is no source here: exit code 4 and the outcome of each place, with its time."""
    silent = replace(SEEN.places[0], outcome="timeout", seconds=5.0)
    patient.seen = replace(SEEN, places=(silent,), source_found=False, password="unknown")
    patient.save()
    code, document = run(patient.root, "doctor")
    assert code == 4 and document["verdict"] == "no source" and document["places"][0]["seconds"] == 5.0
    assert document["password"] == "unknown" and document["instance_id"] == SEEN.instance_id


def test_findings_of_a_later_doctor_are_shown(patient):
    """An area that this doctor has never heard of is not kept from the reader."""
    patient.save()
    newer = {"area": "tides", "state": "problem", "saw": "low", "means": "", "advice": "wait"}
    report(patient, findings=[newer])
    code, document = run(patient.root, "doctor")
    assert code == 1 and document["findings"][-1] == newer and document["recorded"]["areas"] == ["tides"]


def test_a_capture_without_a_report_says_what_is_not_seen(patient):
    """Of a tree with a recorded.json made by hand, the raw areas are judged, and no other is made up."""
    patient.save()
    (patient.root / recorded.REPORT[1:]).unlink()
    code, document = run(patient.root, "doctor")
    unseen = {one["area"] for one in document["findings"] if one["saw"].startswith("not seen: this archive")}
    assert code == 0 and document["recorded"] is None
    assert unseen == {area for area, _check in engine.checks()} - {*recorded.JUDGED_AGAIN}


@pytest.mark.parametrize(
    "document",
    [
        "[]",
        "{",
        '{"findings": {}}',
        '{"findings": [7, {"area": 1, "state": "ok"}, {"area": "sshd", "state": "fine"}, {"state": "ok"}]}',
        '{"findings": [], "places": 7, "instance_id": [], "password": {}, "recorded": [], "version": 7}',
        '{"findings": [], "places": [7, {"seconds": "x", "place": {}}, {"seconds": -1}], "root": "yes"}',
        '{"findings": [{"area": "sshd\\u001b[2J", "state": "ok", "saw": "\\u001b[2Jx\\ny", "advice": null}]}',
    ],
)
def test_a_forged_report_is_no_traceback(patient, document, capsys):
    """An archive may come from anybody: whatever stands in it, there is an answer, fit for a terminal."""
    patient.save()
    patient.write(recorded.REPORT, document)
    found = recorded.read(System.at(str(patient.root)))
    assert found is None or not found.seen.as_root
    assert main(["--root", str(patient.root), "doctor"]) in (0, 1, 4)
    said = capsys.readouterr()
    assert "\033" not in said.out and said.err == ""
    examined = engine.examine(System.at(str(patient.root)), Settings(), "", Options(), wait=0)
    assert not [one for one in examined.findings if "probe failed" in one.saw]


@pytest.mark.parametrize("again", [False, True])
def test_an_older_archive_still_replays(again, tmp_path, capfd):
    """One that has every file raw, and seen.json: its report counts; an archive can be made of it."""
    root = tmp_path / "machine"
    shutil.copytree(ARCHIVES / "with-all-raw-files", root)
    if again:
        assert main(["--root", str(root), "doctor", "--bundle", str(tmp_path / "b.tar.gz")]) == 1
        names = set(contents(tmp_path / "b.tar.gz"))
        assert not [name for name in names if "shadow" in name or "sshd" in name or "df-P" in name]
        root = unpack((tmp_path / "b.tar.gz").read_bytes(), tmp_path / "unpacked")
        capfd.readouterr()
    found = run(root, "discover")[1]
    assert [lease["server_identifier"] for lease in found["leases"]] == ["10.1.1.1"]
    code, document = run(root, "doctor")
    assert code == 1 and capfd.readouterr().err == ""
    saw = {one["area"]: one["saw"] for one in document["findings"] if one["state"] != "ok"}
    assert saw == {
        "settings": "poll: 600",
        "sshd": "PasswordAuthentication no (/etc/ssh/sshd_config.d/50-owner.conf, line 1)",
        "other agents": "/etc/init.d/cloud-set-guest-password",
    }
    assert len(document["places"]) == 3 and document["recorded"]["version"] == "0.1.0"


def test_the_report_of_an_archive_is_the_one_of_doctor(patient, tmp_path, monkeypatch):
    """As JSON in the layout of `doctor --json`, and as text in 80 columns."""
    monkeypatch.setattr(bundle.raw, "gather", lambda *_words: bundle.raw.Raw())
    patient.sshd("permitrootlogin yes", "permitrootlogin no")
    examined = patient.examined()
    members = archive_of(patient, tmp_path / "b.tar.gz")
    assert json.loads(members["_doctor/report.json"]) == doctor.as_json(examined)
    lines = members["_doctor/report.txt"].decode().splitlines()
    assert max(map(len, lines)) <= 80 and "verdict: 1 problem" in lines and "sshd: problem" in lines
