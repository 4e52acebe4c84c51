"""30 documents run in a real Debian 12 by csagent, each with the state that it must lead to.

tests/fixtures/user-data: each was run by cloud-init too, of three versions, and leads to the same state
there, but for what its expected.yaml names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterator

import pytest
import yaml
from support.requirements import require
from support.user_data_state import differences, report_differences, rows
from support.user_data_tree import TOOLS, Scratch, tree

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures/user-data"
NAMES = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())
EXIT_CODES = {"done": (0,), "ignored": (0,), "failed": (1, 3), "refused": (1,)}

pytestmark = [pytest.mark.root, pytest.mark.netns]


@pytest.fixture(scope="module")
def debian() -> Path:
    """A Debian 12 tree."""
    require(TOOLS, "runs documents in a Debian tree")
    return tree()


@pytest.fixture
def scratch(debian: Path, tmp_path: Path) -> Iterator[Scratch]:
    """An overlay of it."""
    made = Scratch(debian, tmp_path)
    yield made
    made.close()


def test_there_are_thirty() -> None:
    """None has been lost on the way."""
    assert len(NAMES) == 30


@pytest.mark.parametrize("name", NAMES)
def test_document(scratch: Scratch, name: str) -> None:
    """It leads to its state, and is reported as what it is."""
    expected = yaml.safe_load((FIXTURES / name / "expected.yaml").read_text("utf-8"))
    document = (FIXTURES / name / "user-data").read_bytes()
    done = scratch.csagent(document, count=expected.get("boot", {}).get("count", 1))
    error = done.stderr.decode(errors="replace")
    assert "Traceback" not in error
    report = json.loads(scratch.told("status.json"))
    log = scratch.text("/var/log/csagent-user-data.log") + scratch.console()
    wrong = differences(scratch, expected, log)
    wrong += report_differences(report, expected, json.dumps(report) + error)
    assert wrong == []
    assert done.returncode in EXIT_CODES[expected["outcome"]]


CUT = b"""\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/x-shellscript; name="10-cut"
Content-Disposition: x; filename="10-cut"

#!/bin/sh
echo cut >> /var/tmp/order
kill -9 "$PPID"
sleep 1
echo late >> /var/tmp/order
--b
Content-Type: text/x-shellscript; name="20-next"
Content-Disposition: x; filename="20-next"

#!/bin/sh
echo next >> /var/tmp/order
--b--
"""


def test_a_runner_that_is_killed_in_a_script(scratch: Scratch) -> None:
    """The script is interrupted, does not run again, and the one behind it does (field/user-data#D8)."""
    scratch.csagent(CUT)
    assert scratch.told("status.json") == ""
    scratch.csagent(CUT)
    report = json.loads(scratch.told("status.json"))
    assert [part["outcome"] for part in report["parts"]] == ["interrupted", "done"]
    assert report["state"] == "interrupted"
    assert scratch.text("/var/tmp/order").split().count("cut") == 1
    assert scratch.text("/var/tmp/order").split()[-1] == "next"
    scratch.csagent(CUT)
    assert scratch.text("/var/tmp/order").split().count("next") == 1


def test_secrets_are_in_files_of_roots_only(scratch: Scratch) -> None:
    """Document, passwords and rendered texts: not in what everybody may read, nor on the console."""
    marker = "EXAMPLE-marker"
    document = f"""#cloud-config
users:
  - {{name: eve, plain_text_passwd: {marker}-1, lock_passwd: false}}
chpasswd: {{list: ["root:{marker}-2"]}}
write_files: [{{path: /root/secret, permissions: "0600", content: {marker}-3}}]
runcmd:
  - "x={marker}-4; ps axe >/root/processes; chmod 600 /root/processes"
""".encode()
    done = scratch.csagent(document)
    assert done.returncode == 0
    assert marker not in scratch.told("status.json") + scratch.console() + done.stderr.decode()
    upper = scratch.directory / "upper"
    for path in (one for one in upper.rglob("*") if one.is_file() and not one.is_symlink()):
        if marker.encode() in path.read_bytes():
            assert path.stat().st_mode & 0o077 == 0, path
    assert marker not in (upper / "root/processes").read_text()


TALKATIVE = b"""\
#cloud-config
bootcmd:
  - [sh, -c, "(while sleep 0.01; do echo EXAMPLE-of-the-background; done) & true"]
users: [{name: carol, uid: "99999999999"}]
fs_setup:
  - {device: /dev/null, filesystem: ext4, partition: none, cmd: "echo EXAMPLE-of-a-command; exit 3"}
"""


def test_what_is_said_is_for_the_log(scratch: Scratch) -> None:
    """What everybody may read has a tool's own message, and nothing of what the document's programs say."""
    scratch.csagent(TALKATIVE)
    published = scratch.told("csagent/user-data.json")
    assert "useradd failed with 3: useradd: invalid user ID" in published
    assert "/bin/sh failed with 3; /var/log/csagent-user-data.log has what it said" in published
    assert "EXAMPLE" not in published
    log = scratch.text("/var/log/csagent-user-data.log")
    assert all(f"EXAMPLE-of-{one}" in log for one in ("the-background", "a-command"))


def test_links_of_others(scratch: Scratch) -> None:
    """A user who was here before cannot choose where the document's files go."""
    planted = "useradd -m mallory; setpriv --reuid mallory --clear-groups sh -c '"
    planted += "ln -s /etc/cron.d/x /tmp/setup.sh; ln -s /etc /home/mallory/conf; mkfifo /home/mallory/pipe'"
    assert scratch.run(planted, {}).returncode == 0
    document = b"#cloud-config\nwrite_files:\n"
    for path in (b"/tmp/setup.sh", b"/home/mallory/conf/x", b"/home/mallory/pipe", b"/home/mallory/own"):
        document += b"  - {path: " + path + b", content: EXAMPLE, owner: mallory}\n"
    scratch.csagent(document)
    (part,) = json.loads(scratch.told("status.json"))["parts"]
    assert part["keys"]["write_files"] == "failed, 3 of 4"
    assert not [path for path in ("/etc/cron.d/x", "/etc/x") if scratch.path(path)]
    assert scratch.text("/home/mallory/own") == "EXAMPLE"


def test_scripts_find_programs_of_usr_local_first(scratch: Scratch) -> None:
    """As systemd gives its services their PATH: what a document puts there comes before the system's."""
    program = '{path: /usr/local/bin/id, permissions: "0755", content: "#!/bin/sh\\necho ours\\n"}'
    done = scratch.csagent(
        f"#cloud-config\nwrite_files: [{program}]\nruncmd: [id >>/var/tmp/order]\n".encode()
    )
    assert done.returncode == 0
    assert scratch.text("/var/tmp/order") == "ours\n"


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExample0 x"
HOMES_OF_ROOTS = f"""#cloud-config
bootcmd: [mkdir -p /var/www]
write_files:
  - {{path: /home/deploy/.profile, content: early}}
  - {{path: /home/other/.ssh/config, content: early}}
users:
  - {{name: deploy, ssh_authorized_keys: ["{KEY}"]}}
  - {{name: other, ssh_authorized_keys: ["{KEY}"]}}
  - {{name: www-data, ssh_authorized_keys: ["{KEY}"]}}
"""


def test_keys_in_homes_that_are_roots(scratch: Scratch) -> None:
    """A file written there before the account was made, and a service's home: the keys are the account's."""
    done = scratch.csagent(HOMES_OF_ROOTS.encode())
    assert done.returncode == 0
    passwd = rows(scratch, "/etc/passwd")
    for name, home in (("deploy", "/home/deploy"), ("other", "/home/other"), ("www-data", "/var/www")):
        for path, mode in ((f"{home}/.ssh", 0o700), (f"{home}/.ssh/authorized_keys", 0o600)):
            made = scratch.path(path)
            assert made is not None
            assert (made.stat().st_uid, made.stat().st_mode & 0o777) == (int(passwd[name][2]), mode)
        assert KEY in scratch.text(f"{home}/.ssh/authorized_keys")


def test_where_no_swap_file_may_be(scratch: Scratch) -> None:
    """Where somebody else could put a link to a disk in its place, mkswap does not run."""
    assert scratch.run("useradd -m mallory", {}).returncode == 0
    scratch.csagent(b"#cloud-config\nswap: {filename: /home/mallory/file, size: 1M}\n")
    (part,) = json.loads(scratch.told("status.json"))["parts"]
    assert "no swap file is made there: /home/mallory belongs to user" in part["reasons"]["swap"]
    assert scratch.path("/home/mallory/file") is None
