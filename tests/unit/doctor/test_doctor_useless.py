"""Each cause that makes a right password or a right key useless is named, alone, with what to do about it."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import pytest
from support.advice_case import RELOAD
from support.healthy_machine import HASH, SSHD, TODAY, Patient, bad
from support.replace_fields import replace
from support.samples import make_key

from csagent.doctor.checks import accounts, sshd
from csagent.doctor.context import Situation
from csagent.settings import Settings
from csagent.system.accounts import find
from csagent.system.seams import System


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """A machine in good health."""
    return Patient(tmp_path)


def shadow(*fields: Any) -> Callable[[Patient], None]:
    """The account's entry: password, last change, minimum, maximum, warning, inactive, expires."""
    return lambda patient: patient.write("/etc/shadow", f"root:{':'.join(map(str, fields))}:\n")


def mode(path: str, permissions: int, uid: int = 0) -> Callable[[Patient], None]:
    """A path has another mode or owner."""

    def change(patient: Patient) -> None:
        known = patient.stats[path]
        assert known is not None
        patient.stats[path] = stat.S_IFMT(known[0]) | permissions, uid

    return change


def not_there(path: str) -> Callable[[Patient], None]:
    """There is nothing, nor below it."""

    def change(patient: Patient) -> None:
        for one in patient.stats:
            if one == path or one.startswith(path + "/"):
                patient.stats[one] = None

    return change


def alice(patient: Patient) -> None:
    """The account is alice's, who is not root."""
    patient.settings = Settings(user="alice")
    for path in [path for path in patient.stats if path.startswith("/root")]:
        known = patient.stats[path]
        assert known is not None
        patient.stats[path.replace("/root", "/home/alice")] = known[0], 1000
    patient.stats["/bin/sh"] = patient.stats["/bin/bash"]
    patient.write("/etc/shadow", f"alice:{HASH}:{TODAY - 10}:0:99999:7:::\n")
    (patient.root / "home/alice").mkdir(parents=True)
    (patient.root / "root/.ssh").rename(patient.root / "home/alice/.ssh")


NO_NOLOGIN = "where none is: systemctl restart systemd-user-sessions"


def nologin(path: str) -> Callable[[Patient], None]:
    """Somebody has closed the machine, and the account is not root's."""

    def change(patient: Patient) -> None:
        alice(patient)
        patient.write(path, "closed for maintenance\n")

    return change


def access(rules: str) -> Callable[[Patient], None]:
    """pam_access is used, with these rules."""

    def change(patient: Patient) -> None:
        patient.write("/etc/pam.d/sshd", "@include common-account\nsession required pam_limits.so\n")
        patient.write("/etc/pam.d/common-account", "account required /lib/security/pam_access.so\n")
        patient.write("/etc/security/access.conf", rules)

    return change


def config(text: str) -> Callable[[Patient], None]:
    """sshd -T does not run; this is what its file says."""
    return lambda patient: patient.without_sshd_t("UsePAM yes\n" + text)


def small_rsa(patient: Patient) -> None:
    patient.seen = replace(patient.seen, key_types=("ssh-rsa 1024",))
    patient.sshd("requiredrsasize 1024", "requiredrsasize 2048")


def dsa(patient: Patient) -> None:
    patient.seen = replace(patient.seen, key_types=("ssh-dss",))


def starts_not(said: str, key: str = "EXAMPLE", config: str = "") -> Callable[[Patient], None]:
    """sshd -t fails with that; what its host key has in it."""

    def change(patient: Patient) -> None:
        patient.refuses("sshd", said)
        patient.write("/etc/ssh/sshd_config", f"PermitRootLogin yes\nUsePAM yes\n{config}")
        patient.write("/etc/ssh/ssh_host_ed25519_key", key)

    return change


def gone(patient: Patient) -> None:
    (patient.root / "root/.ssh/authorized_keys").write_text(make_key(2) + "\n")


ILLS: Dict[str, Tuple[Callable[[Patient], None], str, str, str, str]] = {
    # name: (illness, state, area, in what was seen, in the advice)
    "account missing": (
        lambda patient: setattr(patient, "settings", Settings(user="bob")),
        *("problem", "account", "there is no account bob", "useradd --create-home bob"),
    ),
    "root's line missing": (
        lambda patient: patient.write("/etc/passwd", "alice:x:1000:1000::/home/alice:/bin/sh\n"),
        *("problem", "account", "there is no account root", "pwck -r; grep -w root /etc/passwd-; put that"),
    ),
    "locked": (
        shadow("!" + HASH, 1, 0, 99999, 7, "", ""),
        *("problem", "account", "the password of root is locked (!)", "usermod --unlock root"),
    ),
    "no password left": (
        shadow("*", 1, 0, 99999, 7, "", ""),
        *("problem", "account", "root has no password (*)", "reset the password in CloudStack"),
    ),
    "empty": (shadow("", 1, 0, 99999, 7, "", ""), "warning", "account", "empty password", "passwd root"),
    "no shadow entry": (
        lambda patient: patient.write("/etc/shadow", "daemon:*:1:0:99999:7:::\n"),
        *("problem", "account", "no entry in /etc/shadow", "pwconv"),
    ),
    "expired": (
        shadow(HASH, 1, 0, 99999, 7, "", TODAY - 1),
        *("problem", "account", "root expired on 2026-11-20", "chage --expiredate -1 root"),
    ),
    "expired long ago": (
        shadow(HASH, 1, 0, 99999, 7, "", 0),
        *("problem", "account", "root expired on 1970-01-01", "chage --expiredate -1 root"),
    ),
    "expires soon": (
        shadow(HASH, 1, 0, 99999, 7, "", TODAY + 3),
        *("warning", "account", "root expires on 2026-11-24", "chage --expiredate -1 root"),
    ),
    "must be changed": (
        shadow(HASH, 0, 0, 99999, 7, "", ""),
        *("warning", "account", "must be changed at the next login", "chage --lastday"),
    ),
    "password too old": (
        shadow(HASH, TODAY - 91, 0, 90, 7, "", ""),
        *("warning", "account", "ran out on 2026-11-20", "chage --maxdays -1 root"),
    ),
    "password too old for too long": (
        shadow(HASH, TODAY - 120, 0, 90, 7, 14, ""),
        *("problem", "account", "ran out on", "chage --maxdays -1 root"),
    ),
    "shell is nologin": (
        lambda patient: patient.edit("/etc/passwd", "/bin/bash", "/usr/sbin/nologin"),
        *("problem", "account", "shell of root is /usr/sbin/nologin", "usermod --shell /bin/bash root"),
    ),
    "shell is not there": (
        not_there("/bin/bash"),
        *("problem", "account", "shell /bin/bash of root does not exist", "usermod --shell"),
    ),
    "shell is not executable": (
        mode("/bin/bash", 0o644),
        *("problem", "account", "not executable", "usermod --shell"),
    ),
    "/etc/nologin": (nologin("/etc/nologin"), "problem", "account", "/etc/nologin", "rm /etc/nologin"),
    "/run/nologin": (nologin("/run/nologin"), "problem", "account", "/run/nologin", NO_NOLOGIN),
    "home missing": (
        not_there("/root"),
        *("problem", "account", "home directory /root does not exist", "install -d -m 0700 -o root"),
    ),
    "home is a file": (
        lambda patient: patient.stats.update({"/root": (stat.S_IFREG | 0o600, 0)}),
        *("problem", "account", "is not a directory", "install -d"),
    ),
    "home group-writable": (
        mode("/root", 0o770),
        *("problem", "account", "/root is writable by its group (0770)", "chmod go-w /root"),
    ),
    ".ssh writable by all": (
        mode("/root/.ssh", 0o777),
        *("problem", "account", "/root/.ssh is writable by everybody", "chmod go-w /root/.ssh"),
    ),
    "keys writable by the group": (
        mode("/root/.ssh/authorized_keys", 0o660),
        *("problem", "account", "authorized_keys is writable by its group", "chmod go-w /root/.ssh/auth"),
    ),
    "home of somebody else": (
        mode("/root", 0o755, 1000),
        *("problem", "account", "/root belongs to the user 1000", "chown root: /root"),
    ),
    "keys gone": (gone, "warning", "account", "0 of them from CloudStack", "reset the VM's SSH key"),
    "no authorized_keys": (
        lambda patient: (
            not_there("/root/.ssh/authorized_keys")(patient),
            (patient.root / "root/.ssh/authorized_keys").unlink(),
        ),
        *("problem", "account", "there is no /root/.ssh/authorized_keys", "reset the VM's SSH key"),
    ),
    "home writable, StrictModes off": (
        lambda patient: (
            patient.sshd("strictmodes yes", "strictmodes no"),
            mode("/root", 0o770)(patient),
        ),
        *("warning", "account", "/root is writable by its group", "chmod go-w /root"),
    ),
    "home of somebody else, StrictModes off": (
        lambda patient: (
            patient.sshd("strictmodes yes", "strictmodes no"),
            mode("/root", 0o777, 1000)(patient),
        ),
        *("problem", "account", "/root belongs to the user 1000", "chown root: /root"),
    ),
    "PasswordAuthentication": (
        lambda patient: patient.sshd("passwordauthentication yes", "passwordauthentication no"),
        *("problem", "sshd", "PasswordAuthentication no", "PasswordAuthentication yes"),
    ),
    "PermitRootLogin no": (
        lambda patient: patient.sshd("permitrootlogin yes", "permitrootlogin no"),
        *("problem", "sshd", "PermitRootLogin no", "PermitRootLogin yes at the top of"),
    ),
    "PermitRootLogin without-password": (
        lambda patient: patient.sshd("permitrootlogin yes", "permitrootlogin without-password"),
        *("problem", "sshd", "PermitRootLogin prohibit-password", "PermitRootLogin yes"),
    ),
    "PermitRootLogin forced-commands-only": (
        lambda patient: patient.sshd("permitrootlogin yes", "permitrootlogin forced-commands-only"),
        *("problem", "sshd", "forced-commands-only", "PermitRootLogin prohibit-password"),
    ),
    "PubkeyAuthentication": (
        lambda patient: patient.sshd("pubkeyauthentication yes", "pubkeyauthentication no"),
        *("problem", "sshd", "PubkeyAuthentication no", "PubkeyAuthentication yes"),
    ),
    "AuthorizedKeysFile": (
        lambda patient: patient.sshd(".ssh/authorized_keys .ssh/authorized_keys2", "/etc/ssh/keys/%u"),
        *("problem", "sshd", "AuthorizedKeysFile /etc/ssh/keys/%u", "File .ssh/authorized_keys"),
    ),
    "AuthorizedKeysFile none": (
        lambda patient: patient.sshd(".ssh/authorized_keys .ssh/authorized_keys2", "none"),
        *("problem", "sshd", "AuthorizedKeysFile none", "AuthorizedKeysFile .ssh/authorized_keys"),
    ),
    "PubkeyAcceptedAlgorithms": (
        lambda patient: patient.sshd("ssh-ed25519,sk-ssh-ed25519@openssh.com,", ""),
        *("problem", "sshd", "keys of the type ssh-ed25519", "ssh-keygen -t ed25519"),
    ),
    "a small RSA key": (small_rsa, "problem", "sshd", "1024 bits; RequiredRSASize 2048", "ssh-keygen"),
    "a DSA key": (dsa, "problem", "sshd", "keys of the type ssh-dss", "ssh-keygen -t ed25519"),
    "AuthenticationMethods": (
        lambda patient: patient.sshd("authenticationmethods any", "authenticationmethods publickey,password"),
        *("problem", "sshd", "AuthenticationMethods publickey,password", "AuthenticationMethods any"),
    ),
    "AllowUsers": (
        lambda patient: patient.sshd("usepam yes", "usepam yes\nallowusers alice\nallowusers bob"),
        *("problem", "sshd", "AllowUsers alice bob", "add root to AllowUsers"),
    ),
    "DenyUsers": (
        lambda patient: patient.sshd("usepam yes", "usepam yes\ndenyusers r??t"),
        *("problem", "sshd", "DenyUsers r??t", "take r??t out of DenyUsers"),
    ),
    "DenyUsers from somewhere": (
        lambda patient: patient.sshd("usepam yes", "usepam yes\ndenyusers root@10.0.0.0/8"),
        *("warning", "sshd", "DenyUsers root@10.0.0.0/8", "take root@10.0.0.0/8 out of"),
    ),
    "AllowGroups": (
        lambda patient: patient.sshd("usepam yes", "usepam yes\nallowgroups wheel"),
        *("problem", "sshd", "AllowGroups wheel", "groupadd wheel && usermod --append --groups wheel root"),
    ),
    "DenyGroups": (
        lambda patient: patient.sshd("usepam yes", "usepam yes\ndenygroups root"),
        *("problem", "sshd", "DenyGroups root", "out of DenyGroups"),
    ),
    "pam_access": (
        access("# who may\n+ : alice : ALL\n- : ALL EXCEPT (sudo) : ALL\n"),
        *("problem", "sshd", "access.conf: - : ALL EXCEPT (sudo) : ALL", "+ : root : ALL"),
    ),
    "pam_access from somewhere": (
        access("- : root : 203.0.113.0/24\n"),
        *("warning", "sshd", "- : root : 203.0.113.0/24", "+ : root : ALL"),
    ),
    "no host keys": (
        starts_not("sshd: no hostkeys available -- exiting.\r", ""),
        *("problem", "sshd", "no host keys (/etc/ssh/ssh_host_*_key)", "ssh-keygen -A; systemctl restart"),
    ),
    "host keys that HostKey names": (
        starts_not("sshd: no hostkeys available -- exiting.\r", "EXAMPLE", "HostKey /etc/ssh/keys/x\n"),
        *("problem", "sshd", "no host keys (/etc/ssh/keys/x)", "-N '' -f /etc/ssh/keys/x; systemctl restart"),
    ),
    "host keys that others may read": (
        starts_not("Permissions 0644 for 'x' are too open.\r\nsshd: no hostkeys available -- exiting.\r"),
        *("problem", "sshd", "none of its host keys", "chmod go= /etc/ssh/ssh_host_ed25519_key; systemctl"),
    ),
    "host keys that are none": (
        starts_not("sshd: no hostkeys available -- exiting.\r"),
        *("problem", "sshd", "none of its host keys", "mend that, then: mkdir -p /run/sshd; sshd -t"),
    ),
    "a word that sshd does not know": (
        starts_not(
            "/etc/ssh/sshd_config line 3: Deprecated option X\r\n/etc/ssh/sshd_config: line 5: Bad "
            "configuration option: csagent\r\n/etc/ssh/sshd_config: terminating, 1 bad configuration "
            "options\r\n"
        ),
        *(
            "problem",
            "sshd",
            "sshd -t: /etc/ssh/sshd_config: line 5: Bad configuration option: csagent; /etc/ssh/sshd_config:",
            "mend that, then: mkdir -p /run/sshd; sshd -t && {",
        ),
    ),
    "by the file: no host keys": (
        lambda patient: (
            patient.without_sshd_t("PermitRootLogin yes\n"),
            (patient.root / "etc/ssh/ssh_host_ed25519_key").unlink(),
        ),
        *("problem", "sshd", "no host keys", "ssh-keygen -A"),
    ),
    "by the file: the default for root": (
        config("PasswordAuthentication yes\n"),
        *("problem", "sshd", "PermitRootLogin prohibit-password (sshd's default)", "PermitRootLogin yes"),
    ),
    "by the file: the first value wins": (
        config("PermitRootLogin yes\nPasswordAuthentication=no\nKbdInteractiveAuthentication no\n"
               "PasswordAuthentication yes\n"),
        *("problem", "sshd", "PasswordAuthentication no (/etc/ssh/sshd_config, line 3)", "sshd_config"),
    ),
    "by the file: in a Match block": (
        config("PermitRootLogin yes\nMatch User alice,root\n  PubkeyAuthentication no\n"),
        *("problem", "sshd", "PubkeyAuthentication no (/etc/ssh/sshd_config, line 4)", "PubkeyAuth"),
    ),
    "by the file: a locked account without PAM": (
        lambda patient: (
            shadow("!", 1, 0, 99999, 7, "", "")(patient),
            patient.lose("password"),
            patient.without_sshd_t("PermitRootLogin yes\n"),
        ),
        *("problem", "sshd", "UsePAM no, and the account is locked", "UsePAM yes"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ILLS)
def test_a_cause_is_named_alone_and_with_advice(patient: Patient, name: str) -> None:
    """One finding, of the right state and area, says what was seen and what to do."""
    illness, state, area, saw, advice = ILLS[name]
    illness(patient)
    (found,) = patient.wrong("account", "sshd")
    assert (found.state, found.area) == (state, area), found
    assert saw in found.saw and advice in found.advice and found.means, found


@pytest.mark.parametrize("name", ILLS)
def test_a_cause_is_in_the_archive_word_for_word(patient: Patient, name: str) -> None:
    """What doctor says of each can be read in a support archive; who else may log in is not."""
    ILLS[name][0](patient)
    others = "|".join({"alice", "bob", "sudo"} - {patient.settings.user})
    shown = [
        replace(one, saw=re.sub(rf"\b(?:{others})\b", "redacted", one.saw)) if one.area == "sshd" else one
        for one in patient.findings()
    ]
    assert patient.archived() == shown


@pytest.mark.parametrize(
    ("allowed", "advice"),
    [
        ("wheel sudo", "usermod --append --groups sudo root"),
        ("!guests ssh-*,x ssh-in wheel", "groupadd ssh-in && usermod --append --groups ssh-in root"),
        (
            "ssh-*",
            f"add a group of root to AllowGroups (sshd -T), then: {RELOAD}",
        ),
    ],
)
def test_a_group_that_may_log_in_is_one_that_is_there_or_can_be_made(
    patient: Patient, allowed: str, advice: str
) -> None:
    """AllowGroups has names of groups that exist, of some that do not, and patterns."""
    patient.sshd("usepam yes", f"usepam yes\nallowgroups {allowed}")
    (found,) = patient.wrong("account", "sshd")
    assert found.advice.startswith(advice)


def test_an_account_whose_group_is_there_is_made_in_it(patient: Patient) -> None:
    """useradd makes a group of the account's name, and ends with 9 where there is one."""
    patient.settings = replace(patient.settings, user="sudo")
    (found,) = patient.wrong("account")
    assert found.advice.startswith("useradd --create-home --gid sudo sudo, or set user ")


@pytest.mark.parametrize("user", ["ldapalice", "root"])
def test_an_account_that_was_not_found_out_about_is_not_made(patient: Patient, user: str) -> None:
    """It is there, in a directory whose server hangs: useradd would make a second one of that name."""
    said = f"the name service did not say within 30 s who {user} is"
    situation = replace(patient.situation(), account=None, account_problem=said)
    situation = replace(situation, settings=Settings(user=user))
    (found,) = accounts.account(situation)
    assert (found.state, found.saw) == ("problem", said)
    assert found.advice.startswith(f"timeout 30 getent passwd {user}; ") and "useradd" not in found.advice


def test_below_what_is_to_be_mended_first_nothing_is_to_be_renamed(patient: Patient) -> None:
    """Where the home is mended, root may change what is in it."""
    mode("/root", 0o770)(patient)
    mode("/root/.ssh", 0o777, 1001)(patient)
    mode("/root/.ssh/authorized_keys", 0o666)(patient)
    first = "mend /root first, then: csagent doctor"
    assert [one.advice for one in patient.wrong("sshd")] == ["chmod go-w /root", first, first]


def home_is(path: str) -> Callable[[Patient], None]:
    """alice's home, by passwd(5), with nothing there."""

    def change(patient: Patient) -> None:
        alice(patient)
        patient.write("/etc/passwd", f"alice:x:1000:1000::{path}:/bin/bash\n")

    return change


def leads_nowhere(patient: Patient) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes links that are root's")
    home_is("/home/gone")(patient)
    (patient.root / "home/gone").symlink_to("/data/gone")


def in_a_directory_of_hers(patient: Patient) -> None:
    home_is("/srv/app/home")(patient)
    (patient.root / "srv/app").mkdir(parents=True)
    patient.stats.update({"/srv": (0o40755, 0), "/srv/app": (0o40755, 1000)})


def not_mounted(patient: Patient) -> None:
    home_is("/data/home/alice")(patient)
    patient.write("/etc/fstab", "#/dev/a /data/home/alice ext4 rw 0 0\nLABEL=x /data/ ext4 nofail 0 2\n")


def below_a_file(patient: Patient) -> None:
    home_is("/data/alice")(patient)
    patient.write("/data", "")
    patient.stats["/data"] = 0o100644, 0


def without_bash(patient: Patient) -> None:
    not_there("/bin/bash")(patient)
    patient.stats["/bin/sh"] = 0o100755, 0


MAKE = "install -d -m 0700 -o alice -g 1000 "
NAME = "; give what stands there another name; then: "
THAT_RUNS: Dict[str, Tuple[Callable[[Patient], None], str, str]] = {
    "a blank in the home": (home_is("/home/a b"), "/home/a b does not exist", f"{MAKE}'/home/a b'"),
    "a slash at its end": (home_is("/home/x/"), "/home/x does not exist", f"{MAKE}/home/x"),
    "a link that leads nowhere": (
        *(leads_nowhere, "the home /home/gone is not a directory"),
        f"namei -l /home/gone{NAME}{MAKE}/home/gone",
    ),
    "a file above it": (
        *(below_a_file, "/data, where the home /data/alice is to be, is not a directory"),
        f"namei -l /data{NAME}{MAKE}/data/alice",
    ),
    "none": (
        *(home_is(""), "the home of alice is '', no absolute path"),
        f"{MAKE}/home/alice; usermod --home /home/alice alice; then: csagent apply",
    ),
    "none of root's": (
        lambda patient: patient.edit("/etc/passwd", "::/root:", ":::"),
        "the home of root is ''",
        "write /root as the home of root in /etc/passwd, then: csagent apply",
    ),
    "not mounted": (
        *(not_mounted, "does not exist, and /data of /etc/fstab is not mounted"),
        "mount /data; then: csagent apply",
    ),
    "in a directory of hers": (
        *(in_a_directory_of_hers, "the home directory /srv/app/home does not exist"),
        "runuser -u alice -- mkdir -p -m 0700 /srv/app/home",
    ),
    "bash is gone": (without_bash, "the shell /bin/bash of root does not", "usermod --shell /bin/sh root"),
    "locked as on EL": (
        shadow("!!" + HASH, 1, 0, 99999, 7, "", ""),
        *("the password of root is locked (!!)", "usermod --unlock root && usermod --unlock root"),
    ),
    "locked by hand": (
        shadow("*" + HASH, 1, 0, 99999, 7, "", ""),
        "the password of root is locked (*)",
        "reset the password in CloudStack, then: csagent apply; or here: passwd root",
    ),
}


@pytest.mark.parametrize("name", THAT_RUNS)
def test_what_is_advised_can_be_run_there(patient: Patient, name: str) -> None:
    """Not a command that fails on what stands in its way, or changes nothing."""
    illness, saw, advice = THAT_RUNS[name]
    illness(patient)
    (found,) = patient.wrong("account", "sshd")
    assert saw in found.saw and found.advice == advice


def test_a_home_that_ends_with_a_slash_is_there(patient: Patient) -> None:
    """As /etc/passwd may have it."""
    alice(patient)
    patient.write("/etc/passwd", "alice:x:1000:1000::/home/alice/:/bin/bash\n")
    assert patient.wrong("account", "sshd") == []


def test_a_shadow_file_that_is_gone_is_made_anew(patient: Patient) -> None:
    """pwck -r only says that it is not there."""
    (patient.root / "etc/shadow").unlink()
    (found,) = patient.wrong("account")
    assert found.advice == "pwconv; reset the password in CloudStack, then: csagent apply"


def test_an_include_that_is_commented_out_is_none(patient: Patient) -> None:
    """The line is then to be written in the file that sshd reads."""
    patient.sshd("permitrootlogin yes", "permitrootlogin no")
    for written, where in (("#Include", "write PermitRootLogin yes at the top of "), ("Include", "echo '")):
        patient.write("/etc/ssh/sshd_config", f"{written} /etc/ssh/sshd_config.d/*.conf\n")
        (found,) = patient.wrong("sshd")
        assert found.advice.startswith(where)


def test_a_healthy_machine_has_nothing_wrong(patient: Patient) -> None:
    """The same machine without an illness: no problem, no warning."""
    assert patient.wrong() == []


def test_another_account_in_good_health(patient: Patient) -> None:
    """alice, with sudo and a home of her own, is not judged by what is about root."""
    alice(patient)
    del patient.outputs["sshd -T"]
    who = "user=alice,host=client.example,addr=203.0.113.1"
    patient.outputs[f"sshd -T -C {who}"] = SSHD.replace("permitrootlogin yes", "permitrootlogin no")
    assert patient.wrong("account", "sshd") == []


LINKS = {
    "a file of bob's": ("/home/alice/.ssh/authorized_keys", "/home/bob/.pgpass"),
    "a device": ("/home/alice/.ssh/authorized_keys", "/dev/null"),
    "a home of bob's": ("/home/alice/.ssh", "/home/bob"),
    "what everybody writes to": ("/home/alice/.ssh", "../../tmp"),
    "nothing": ("/home/alice/.ssh", "gone"),
    "a home in a directory of hers": ("/srv/app/home", "/home/bob"),
}


@pytest.mark.parametrize("name", LINKS)
def test_where_the_owners_link_leads_nothing_is_read_and_nobody_is_told_to_change_it(
    patient: Patient, name: str
) -> None:
    """The owner chooses where it leads: chown there would be the owner's word with root's rights."""
    alice(patient)
    path, target = LINKS[name]
    others = {"/home/bob": (0o40777, 1001), "/tmp": (0o41777, 0), "/srv/app": (0o40755, 1000)}
    patient.stats.update(others)
    for one in others:
        (patient.root / one[1:]).mkdir(parents=True)
    for file in (".pgpass", "authorized_keys"):
        patient.write(f"/home/bob/{file}", make_key(9))
        patient.stats[f"/home/bob/{file}"] = 0o100666, 1001
    if path.startswith("/srv"):
        patient.write("/etc/passwd", f"alice:x:1000:1000::{path}:/bin/bash\n")
    for one in [one for one in patient.stats if one.startswith(path)]:
        del patient.stats[one]
    link = patient.root / path[1:]
    if link.exists():
        link.rename(patient.root / "kept")
    link.symlink_to(target)
    (found,) = patient.wrong("account", "sshd")
    assert found.state == "problem" and found.saw.startswith(f"{path} is a link of the user ")
    assert found.saw.endswith(f" to {target!r}")
    assert found.advice == f"namei -l {path}; give what stands there another name; then: csagent apply"
    assert not [one for one in patient.findings("sshd") if "1 key" in one.saw]
    patient.settings = replace(patient.settings, ssh_keys=False)
    assert patient.wrong("account", "sshd") == []
    assert any(one.saw == found.saw for one in patient.findings("sshd"))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes links that are root's")
def test_roots_own_link_to_a_home_is_followed(patient: Patient) -> None:
    """As /home/alice -> /data/alice, where nobody else can put one."""
    alice(patient)
    for one in [one for one in patient.stats if one.startswith("/home/alice")]:
        mode, uid = patient.stats.pop(one) or (0, 0)
        patient.stats[one.replace("/home", "/data")] = mode, uid
    patient.stats["/data"] = 0o40755, 0
    (patient.root / "data").mkdir()
    (patient.root / "home/alice").rename(patient.root / "data/alice")
    (patient.root / "home/alice").symlink_to("/data/alice")
    found = patient.findings("sshd")
    assert bad(found) == [] and any("1 key, 1 of them from CloudStack" in one.saw for one in found)


OTHER_NAME = "namei -l {}; give what stands there another name; then: csagent apply"


@pytest.mark.parametrize(
    ("path", "permissions", "uid", "advice"),
    [
        ("/home/alice", 0o777, 1000, "chmod go-w {}"),
        ("/home/alice", 0o700, 1001, "chown alice: {}"),
        ("/home/alice/.ssh", 0o777, 1000, "runuser -u alice -- chmod go-w {}"),
        ("/home/alice/.ssh/authorized_keys", 0o620, 1000, "runuser -u alice -- chmod go-w {}"),
        ("/home/alice/.ssh/authorized_keys", 0o622, 0, OTHER_NAME),
        ("/home/alice/.ssh", 0o700, 1001, OTHER_NAME),
        # As hard links to bob's files are, and files that bob has put into a directory of hers.
        ("/home/alice/.ssh/authorized_keys", 0o600, 1001, OTHER_NAME),
    ],
)
def test_what_the_owner_may_have_put_there_root_is_not_told_to_change(
    patient: Patient, path: str, permissions: int, uid: int, advice: str
) -> None:
    """It may be bob's file, and it may be a link by the time that the advice is run."""
    alice(patient)
    mode(path, permissions, uid)(patient)
    found = [one for one in patient.wrong("account", "sshd") if f"{path} " in one.saw]
    assert [one.advice for one in found] == [advice.format(path)]


@pytest.mark.parametrize(
    "name", ["locked", "PasswordAuthentication", "PermitRootLogin without-password", "no password left"]
)
def test_without_a_password_from_cloudstack_it_is_no_problem(patient: Patient, name: str) -> None:
    """A machine for keys only, whose password nobody has set, is not ill because it takes none."""
    ILLS[name][0](patient)
    patient.lose("password")
    assert not [one for one in patient.findings("account", "sshd") if one.state == "problem"]


@pytest.mark.parametrize(
    "name", ["PubkeyAuthentication", "AuthorizedKeysFile", "PubkeyAcceptedAlgorithms", "a DSA key"]
)
def test_without_keys_from_cloudstack_it_is_no_problem(patient: Patient, name: str) -> None:
    """A machine for passwords only is not ill because it takes no keys."""
    ILLS[name][0](patient)
    patient.lose("ssh_keys")
    assert bad(patient.findings("sshd")) == []


def test_the_setting_password_false_silences_what_is_about_passwords(patient: Patient) -> None:
    """Who has told csagent to leave the password alone does not hear about sshd refusing it."""
    patient.settings = Settings(password=False)
    patient.sshd("passwordauthentication yes", "passwordauthentication no")
    assert patient.wrong("account", "sshd") == []


def test_keyboard_interactive_takes_the_password_too(patient: Patient) -> None:
    """With PAM behind it PasswordAuthentication no is worth a note only."""
    patient.sshd("passwordauthentication yes", "passwordauthentication no")
    patient.sshd("kbdinteractiveauthentication no", "kbdinteractiveauthentication yes")
    (note,) = [one for one in patient.findings("sshd") if one.state == "note"]
    assert "KbdInteractiveAuthentication is on" in note.means


def test_one_useless_key_among_good_ones_is_a_warning(patient: Patient) -> None:
    """As long as another key opens the door nobody is locked out."""
    patient.seen = replace(patient.seen, key_types=("ssh-ed25519", "ssh-dss"))
    (found,) = patient.wrong("sshd")
    assert found.state == "warning" and "ssh-dss" in found.saw


def test_access_conf_does_not_matter_where_pam_does_not_ask_it(patient: Patient) -> None:
    """The file is on every Debian; without pam_access.so in sshd's stack it is only a file."""
    access("- : ALL : ALL\n")(patient)
    patient.write(
        "/etc/pam.d/common-account", "account required pam_unix.so\n#account required pam_access.so\n"
    )
    assert patient.wrong("sshd") == []


def test_a_comment_of_access_conf_ends_with_its_line(patient: Patient) -> None:
    """And with nothing else that Python takes for the end of one."""
    access("# such as\u2028- : ALL : ALL\n")(patient)
    assert patient.wrong("sshd") == []


def test_the_line_that_says_so_is_named(patient: Patient) -> None:
    """sshd -T does not tell where a value stands; the files do, Include followed."""
    patient.write(
        "/etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\n"
    )
    patient.write("/etc/ssh/sshd_config.d/50-cloud.conf", "# theirs\nPasswordAuthentication no\n")
    patient.sshd("passwordauthentication yes", "passwordauthentication no")
    (found,) = patient.wrong("sshd")
    assert "(/etc/ssh/sshd_config.d/50-cloud.conf, line 2)" in found.saw
    assert "yes in /etc/ssh/sshd_config.d/50-cloud.conf, line 2; then" in found.advice


def test_no_finding_holds_a_hash_or_a_key(patient: Patient) -> None:
    """What is secret is counted and named by its kind, never shown."""
    patient.write("/etc/shadow", f"root:$y$j9T$EXAMPLE-marker-hash:{TODAY}:0:99999:7:::\n")
    key = (patient.root / "root/.ssh/authorized_keys").read_text().split()[-5]
    shown = repr(patient.findings())
    assert "EXAMPLE-marker" not in shown and key not in shown and "AAAA" not in shown


def test_a_tree_is_judged_by_its_own_files(tree: Path) -> None:
    """A mounted image: owners and modes are those of the files; nothing is asked, no link leads outside."""
    (tree / "bin").mkdir()
    (tree / "bin/bash").write_text("")
    (tree / "bin/bash").chmod(0o755)
    system = System.at(str(tree))
    situation = Situation(system, Settings(), account=find(system, "root"))
    assert bad(accounts.account(situation)) == [] and bad(sshd.sshd(situation)) == []
    (tree / "root").chmod(0o775)
    (tree / "bin/bash").unlink()
    (tree / "bin/bash").symlink_to("/bin/zsh-that-is-not-there")
    situation = replace(situation)  # looked at anew
    found = bad([*accounts.account(situation), *sshd.sshd(situation)])
    assert [one.saw for one in found] == [
        "the shell /bin/bash of root does not exist",
        "/root is writable by its group (0775)",
    ]


def test_what_sshd_does_not_fail_for_is_no_finding(patient: Patient) -> None:
    """A Match that `sshd -T -C` was told too little for, a stopped unit's directory, keys that it has."""
    patient.refuses("sshd -T", "'Match LocalPort' in configuration but 'lport' not in connection test")
    patient.outputs["sshd -t"] = ""
    assert patient.wrong("sshd") == []
    patient.refuses("sshd", "Missing privilege separation directory: /run/sshd\r\n")
    assert patient.wrong("sshd") == []
    patient.refusals.clear()
    (patient.root / "etc/ssh/ssh_host_ed25519_key").unlink()
    assert patient.wrong("sshd") == []  # sshd -T: HostKey names others
    patient.refuses("sshd", "sshd: no hostkeys available -- exiting.")  # to whoever cannot read them
    patient.seen = replace(patient.seen, as_root=False)
    patient.edit("/etc/ssh/sshd_config", "UsePAM yes\n", "UsePAM yes\nHostKey /etc/ssh/keys/x\n")
    assert patient.wrong("sshd") == []


def test_sshd_without_its_configuration_does_not_start(patient: Patient) -> None:
    """It is not taken for a machine without sshd."""
    patient.refuses("sshd", "/etc/ssh/sshd_config: No such file or directory\r\n")
    (patient.root / "etc/ssh/sshd_config").unlink()
    (found,) = patient.wrong("sshd")
    assert found.saw == "sshd -t: /etc/ssh/sshd_config: No such file or directory"


def test_what_sshd_says_steers_no_terminal(patient: Patient) -> None:
    """It quotes what stands in its files."""
    patient.refuses("sshd", f"line 1: Bad configuration option: \x1b[2J{'x' * 5000}\r\n")
    (found,) = patient.wrong("sshd")
    assert "\x1b" not in found.saw and len(found.saw) < 300
