"""Advice about accounts, keys and sshd, and about what keeps a password from being set."""

from __future__ import annotations

from typing import Dict, Tuple

from support.advice_case import (
    CLOUD,
    DONE,
    GREP,
    HAND,
    OWNER,
    RELOAD,
    RESET_KEYS,
    RESET_PASSWORD,
    SAID,
    SETTINGS,
    TWICE,
    Case,
    look,
)
from support.samples import make_key

SSHD_AGAIN = "sshd -t && { systemctl restart ssh || systemctl restart sshd; }"
ACCOUNT, SSHD = ("doctor/checks/accounts.py",), ("doctor/checks/sshd.py",)
HOME, DISK = ("doctor/checks/homes.py",), ("doctor/checks/machine.py",)
FAILURE = ("apply/failures.py",)

ALICE = (
    f"groupadd --gid 4300 alice; useradd --no-create-home --uid 4300 --gid 4300 alice; "
    f"echo 'user: alice' > {SETTINGS}"
)
NO_ALICE = f"rm -f {SETTINGS}; userdel alice; csagent apply"

ROUNDS: Dict[str, Tuple[Case, ...]] = {
    "an account that is closed, and sshd refuses it": (
        Case(
            *(ACCOUNT, "usermod --lock root", "account", "the password of root is locked"),
            "usermod --unlock root",
        ),
        Case(
            *(ACCOUNT, "chage --expiredate 2020-01-02 root", "account", "root expired on 2020-01-02"),
            "chage --expiredate -1 root",
        ),
        Case(
            *(ACCOUNT, "usermod --shell /usr/sbin/nologin root", "account", "the shell of root is"),
            "usermod --shell /bin/bash root",
        ),
        Case(
            *(ACCOUNT, "chage --lastday 0 root", "account", "the password of root must be changed"),
            "chage --lastday * root",
        ),
        Case(*(HOME, "chmod g+w /root", "account", "/root is writable by its group"), "chmod go-w /root"),
        Case(
            *(HOME, "chown 4321 /root/.ssh", "account", "/root/.ssh belongs to the user 4321"),
            "mend /root first, then: csagent doctor",
            (HAND + "chmod go-w /root; chown root: /root/.ssh", "csagent doctor"),
            ends=(0, 1),
        ),
        Case(
            *(SSHD, f"echo PasswordAuthentication no >> {OWNER}", "sshd", "PasswordAuthentication no"),
            f"write PasswordAuthentication yes in {OWNER}, line 2; then: {RELOAD}",
            (HAND + f"sed -i 's/^PasswordAuthentication no/PasswordAuthentication yes/' {OWNER}", RELOAD),
            restored=f"echo PermitRootLogin yes > {OWNER}",
        ),
        Case(
            *(SSHD, f"echo AllowUsers alice >> {OWNER}", "sshd", "AllowUsers alice"),
            f"add root to AllowUsers ({OWNER}, line 3), then: {RELOAD}",
            (HAND + f"sed -i '/^AllowUsers/s/$/ root/' {OWNER}", RELOAD),
        ),
        Case(
            *(SSHD, f"echo DenyUsers root >> {OWNER}", "sshd", "DenyUsers root"),
            f"take root out of DenyUsers ({OWNER}, line 4), then: {RELOAD}",
            (HAND + f"sed -i '/^DenyUsers/d' {OWNER}", RELOAD),
        ),
        Case(
            *(SSHD, f"echo DenyGroups root >> {OWNER}", "sshd", "DenyGroups root"),
            f"take root out of the group, or root out of DenyGroups, then: {RELOAD}",
            (HAND + f"sed -i '/^DenyGroups/d' {OWNER}", RELOAD),
        ),
        Case(
            *(SSHD, f"echo AllowGroups ssh-in >> {OWNER}", "sshd", "AllowGroups ssh-in"),
            "groupadd ssh-in && usermod --append --groups ssh-in root",
            restored="groupdel ssh-in",
        ),
    ),
    "an empty password, and sshd's defaults": (
        Case(
            *(ACCOUNT, "passwd -d root", "account", "root has an empty password"), "passwd root", given=TWICE
        ),
        Case(
            *(SSHD, f"rm {OWNER}", "sshd", "PermitRootLogin prohibit-password"),
            f"echo 'PermitRootLogin yes' >> /etc/ssh/sshd_config.d/00-local.conf; then: {RELOAD}; or name "
            "another account in the setting user",
            ("echo 'PermitRootLogin yes' >> /etc/ssh/sshd_config.d/00-local.conf", RELOAD),
            restored=f"rm -f /etc/ssh/sshd_config.d/00-local.conf; echo PermitRootLogin yes > {OWNER}",
        ),
        Case(
            *(SSHD, "echo 'AllowGroups ssh-*' > /etc/ssh/sshd_config.d/60.conf", "sshd", "AllowGroups ssh-*"),
            f"add a group of root to AllowGroups (/etc/ssh/sshd_config.d/60.conf, line 1), then: {RELOAD}",
            (HAND + "sed -i 's/$/ root/' /etc/ssh/sshd_config.d/60.conf", RELOAD),
            restored="rm /etc/ssh/sshd_config.d/60.conf",
        ),
    ),
    "host keys that others may read": (
        Case(
            *(SSHD, "chmod 644 /etc/ssh/ssh_host_*_key", "sshd", "sshd takes none of its host keys"),
            "chmod go= /etc/ssh/ssh_host_ecdsa_key /etc/ssh/ssh_host_ed25519_key /etc/ssh/ssh_host_rsa_key; "
            "systemctl restart ssh || systemctl restart sshd",
            restored="chmod go= /etc/ssh/ssh_host_*_key",
        ),
    ),
    "host keys elsewhere, which are not there": (
        Case(
            *(SSHD, f"echo HostKey /etc/ssh/test_key >> {OWNER}", "sshd", "no host keys (/etc/ssh/test_key)"),
            "ssh-keygen -t ed25519 -N '' -f /etc/ssh/test_key; "
            "systemctl restart ssh || systemctl restart sshd",
            restored=f"rm -f /etc/ssh/test_key*; echo PermitRootLogin yes > {OWNER}",
        ),
    ),
    "a word that sshd does not know": (
        Case(
            *(
                SSHD,
                f"echo Foo bar >> {OWNER}",
                "sshd",
                f"sshd -t: {OWNER}: line 2: Bad configuration option",
            ),
            f"mend that, then: mkdir -p /run/sshd; {SSHD_AGAIN}",
            (HAND + f"sed -i /Foo/d {OWNER}", "mkdir -p /run/sshd", SSHD_AGAIN),
            restored=f"echo PermitRootLogin yes > {OWNER}",
        ),
    ),
    "an account that ran out, and sshd without its drop-ins": (
        Case(
            SSHD,
            "mkdir /etc/ssh/kept && mv /etc/ssh/ssh_host_* /etc/ssh/kept/",
            *("sshd", "no host keys"),
            "ssh-keygen -A; systemctl restart ssh || systemctl restart sshd",
            restored="rm -r /etc/ssh/kept",
        ),
        Case(
            *(
                ACCOUNT,
                "chage --lastday 2020-01-01 --maxdays 30 root",
                "account",
                "the password of root ran out",
            ),
            f"chage --maxdays -1 root; or {RESET_PASSWORD}",
            ("chage --maxdays -1 root", *DONE),
        ),
        Case(
            *(ACCOUNT, "chage --expiredate $(date -d '+3 days' +%F) root", "account", "root expires on"),
            "chage --expiredate -1 root",
        ),
        Case(
            *(
                ACCOUNT,
                "sed -i '/^root:/s|:[^:]*$|:/bin/gone|' /etc/passwd",
                "account",
                "the shell /bin/gone",
            ),
            "usermod --shell /bin/bash root",
        ),
        Case(
            *(HOME, ": > /root/.ssh/authorized_keys", "account", "0 of them from CloudStack"),
            RESET_KEYS,
            (CLOUD + "keys", "csagent apply"),
        ),
        Case(
            *(
                SSHD,
                "sed -i.kept 's/^Include/#Include/' /etc/ssh/sshd_config",
                "sshd",
                "PermitRootLogin prohibit",
            ),
            f"write PermitRootLogin yes at the top of /etc/ssh/sshd_config; then: {RELOAD}; or name another "
            "account in the setting user",
            (HAND + "sed -i '1i PermitRootLogin yes' /etc/ssh/sshd_config", RELOAD),
            restored="mv /etc/ssh/sshd_config.kept /etc/ssh/sshd_config",
        ),
    ),
    "a password and keys that are not the instance's": (
        Case(
            *(ACCOUNT, "usermod --password '*' root", "account", "root has no password (*)"),
            f"{RESET_PASSWORD}; or here: passwd root",
            (*DONE, "passwd root"),
            given=TWICE,
        ),
        Case(
            HOME,
            f"sed -i '/^# csagent end/i {make_key(77)}' /root/.ssh/authorized_keys",
            *("account", "1 of these for another instance"),
            f"take line 3 out of /root/.ssh/authorized_keys, or {RESET_KEYS}",
            (CLOUD + "keys", "csagent apply"),
        ),
    ),
    "keys of another instance alone": (
        Case(
            HOME,
            f"sed -i 's|^ssh-.*|{make_key(77)}|' /root/.ssh/authorized_keys",
            *("account", "of these for another instance"),
            f"sed -i '/^# csagent begin:/,/^# csagent end$/d' /root/.ssh/authorized_keys; or {RESET_KEYS}",
            (
                "sed -i '/^# csagent begin:/,/^# csagent end$/d' /root/.ssh/authorized_keys",
                *(CLOUD + "keys", "csagent apply"),
            ),
        ),
    ),
    "no shadow entry": (
        Case(
            *(ACCOUNT, "sed -i /^root:/d /etc/shadow", "account", "root has no entry in /etc/shadow"),
            f"pwconv; {RESET_PASSWORD}; or name another account in the setting user",
            ("pwconv", *DONE),
        ),
    ),
    "no shadow file": (
        Case(
            *(ACCOUNT, "mv /etc/shadow /root/kept", "account", "/etc/shadow: No such file"),
            f"pwconv; {RESET_PASSWORD}",
            ("pwconv", *DONE, HAND + "stat -c '%a %U %G' /etc/shadow"),
            shows="[46]40 root shadow",
            restored="mv -f /root/kept /etc/shadow",
        ),
    ),
    "no such user": (
        Case(
            *(ACCOUNT, f"echo 'user: bob' > {SETTINGS}; groupadd bob", "account", "there is no account bob"),
            "useradd --create-home --gid bob bob, or set user in /etc/csagent/csagent.yaml, then: "
            "csagent apply",
            ("useradd --create-home --gid bob bob", "csagent apply"),
            restored=f"rm -f {SETTINGS}; userdel -r bob",
        ),
    ),
    "root's line is gone": (
        Case(
            *(FAILURE, "cp -p /etc/passwd /etc/passwd-; sed -i /^root:/d /etc/passwd", "account"),
            "there is no account root",
            "pwck -r; grep -w root /etc/passwd-; put that line back at the top of /etc/passwd; "
            "then: csagent apply",
            (
                *("pwck -r", "grep -w root /etc/passwd-"),
                *(HAND + "cp -p /etc/passwd- /etc/passwd", "csagent apply"),
            ),
            ends=(0, 2),
            shows="root:x:0:0:",
            restored="grep -q ^root: /etc/passwd || cp -p /etc/passwd- /etc/passwd",
        ),
    ),
    "a pass that found no root": (
        Case(
            FAILURE,
            f"cp -p /etc/passwd /etc/passwd-; sed -i /^root:/d /etc/passwd; {SAID}",
            *("last pass", "ssh_keys: failed"),
            "pwck -r; grep -w root /etc/passwd-; put that line back at the top of /etc/passwd; "
            "then: csagent apply",
            (
                *("pwck -r", "grep -w root /etc/passwd-"),
                *(HAND + "cp -p /etc/passwd- /etc/passwd", "csagent apply"),
            ),
            ends=(0, 2),
            shows="root:x:0:0:",
            restored="grep -q ^root: /etc/passwd || cp -p /etc/passwd- /etc/passwd",
            before="keys",
        ),
        look(
            ACCOUNT,
            "timeout 30 getent passwd root; grep ^passwd: /etc/nsswitch.conf; mend the service that does "
            "not answer, then: csagent apply",
            ("timeout 30 getent passwd root", "grep ^passwd: /etc/nsswitch.conf", "csagent apply"),
            shows="root:x:0:0:(?s:.*)passwd:",
        ),
    ),
    "a pass that found no such user": (
        Case(
            *(FAILURE, f"echo 'user: carol' > {SETTINGS}; {SAID}", "last pass", "ssh_keys: failed"),
            "useradd --create-home carol, with --gid carol where that is a group, or set user in "
            "/etc/csagent/csagent.yaml; then: csagent apply",
            ("useradd --create-home carol", "csagent apply"),
            restored=f"rm -f {SETTINGS}; userdel -r carol; csagent apply",
        ),
    ),
    "nobody but root may log in": (
        Case(
            HOME,
            f"useradd --create-home alice; echo 'user: alice' > {SETTINGS}; {SAID}; rm -r /home/alice",
            *("account", "the home directory /home/alice does not exist"),
            "install -d -m 0700 -o alice -g * /home/alice",
            restored=f"rm -f {SETTINGS}; userdel -r alice; csagent apply",
        ),
        Case(*(ACCOUNT, "touch /etc/nologin", "account", "/etc/nologin is there"), "rm /etc/nologin"),
        Case(
            *(ACCOUNT, "touch /run/nologin", "account", "/run/nologin is there"),
            "systemctl list-jobs; where a shutdown is planned: shutdown -c; where none is: "
            "systemctl restart systemd-user-sessions",
            ("systemctl list-jobs", "shutdown -c", "systemctl restart systemd-user-sessions"),
            restored="rm -f /run/nologin",
        ),
    ),
    "a home that is a file": (
        Case(
            HOME,
            f"{ALICE}; touch /home/alice",
            *("account", "the home /home/alice is not a directory"),
            "namei -l /home/alice; give what stands there another name; then: "
            "install -d -m 0700 -o alice -g 4300 /home/alice",
            (
                "namei -l /home/alice",
                HAND + "mv /home/alice /home/alice-file",
                "install -d -m 0700 -o alice -g 4300 /home/alice",
            ),
            shows="-rw.* alice",
            restored=f"{NO_ALICE}; rm -rf /home/alice /home/alice-file",
        ),
    ),
    "an account without a home": (
        Case(
            HOME,
            f"{ALICE}; sed -i '/^alice:/s|:/home/alice:|::|' /etc/passwd",
            *("account", "the home of alice is ''"),
            "install -d -m 0700 -o alice -g 4300 /home/alice; usermod --home /home/alice alice; "
            "then: csagent apply",
            (
                "install -d -m 0700 -o alice -g 4300 /home/alice",
                *("usermod --home /home/alice alice", "csagent apply"),
            ),
            restored=f"{NO_ALICE}; rm -rf /home/alice",
        ),
    ),
    "root without a home": (
        Case(
            *(HOME, "sed -i.kept '/^root:/s|:/root:|::|' /etc/passwd", "account", "the home of root is ''"),
            "write /root as the home of root in /etc/passwd, then: csagent apply",
            (HAND + "mv /etc/passwd.kept /etc/passwd", "csagent apply"),
        ),
    ),
    "a home in a directory of its owner's": (
        Case(
            HOME,
            f"{ALICE}; usermod --home /srv/app/home alice; install -d -o alice /srv/app",
            *("account", "the home directory /srv/app/home does not exist"),
            "runuser -u alice -- mkdir -p -m 0700 /srv/app/home",
            restored=f"{NO_ALICE}; rm -rf /srv/app",
        ),
    ),
    "a /home that is not mounted": (
        Case(
            HOME,
            f"{ALICE}; install -d -o alice /srv/homes/alice; cp -p /etc/fstab /etc/fstab.kept; "
            "echo '/srv/homes /home none bind 0 0' >> /etc/fstab",
            *("account", "/home of /etc/fstab is not mounted"),
            "mount /home; then: csagent apply",
            ("mount /home", "csagent apply"),
            restored=f"umount /home; mv /etc/fstab.kept /etc/fstab; rm -r /srv/homes; {NO_ALICE}",
        ),
    ),
    "locked as on EL, and without bash": (
        Case(
            ACCOUNT,
            "usermod --lock root; sed -i '/^root:/s|:!|:!!|' /etc/shadow",
            *("account", "the password of root is locked (!!)"),
            "usermod --unlock root && usermod --unlock root",
        ),
        Case(
            *(ACCOUNT, "mv /bin/bash /bin/kept-bash", "account", "the shell /bin/bash of root does not"),
            "usermod --shell /bin/sh root",
            restored="mv /bin/kept-bash /bin/bash; usermod --shell /bin/bash root",
        ),
    ),
    "keys of somebody else's": (
        Case(
            *(HOME, "chown 4321 /root/.ssh", "account", "/root/.ssh belongs to the user 4321"),
            "chown root: /root/.ssh",
        ),
    ),
    "keys that others may write": (
        Case(
            HOME,
            f"useradd --create-home alice; echo 'user: alice' > {SETTINGS}; {SAID}; "
            "chmod 777 /home/alice/.ssh",
            *("account", "/home/alice/.ssh is writable by everybody"),
            "runuser -u alice -- chmod go-w /home/alice/.ssh",
            restored=f"rm -f {SETTINGS}; userdel -r alice; csagent apply",
        ),
    ),
    "a link in place of the keys": (
        Case(
            HOME,
            f"useradd --create-home alice; echo 'user: alice' > {SETTINGS}; {SAID}; "
            "ln -sf /etc/shadow /home/alice/.ssh/authorized_keys",
            *("account", "/home/alice/.ssh/authorized_keys is a link of the user 0 to '/etc/shadow'"),
            "namei -l /home/alice/.ssh/authorized_keys; give what stands there another name; "
            "then: csagent apply",
            (
                "namei -l /home/alice/.ssh/authorized_keys",
                HAND + "mv /home/alice/.ssh/authorized_keys /home/alice/.ssh/of-shadow",
                "csagent apply",
            ),
            shows="authorized_keys -> /etc/shadow",
            restored=f"rm -f {SETTINGS}; userdel -r alice; csagent apply",
        ),
    ),
    "a key that sshd does not take": (
        Case(
            SSHD,
            f"csagent apply; echo RequiredRSASize 2048 >> {OWNER}",
            *("sshd", "an ssh-rsa key of 1024 bits"),
            "make a new key (ssh-keygen -t ed25519) and reset it in CloudStack",
            ("ssh-keygen -t ed25519", CLOUD + "keys", HAND + "csagent apply"),
            given="/root/new\n\n\n",
            restored=f"rm -f /root/new /root/new.pub; echo PermitRootLogin yes > {OWNER}",
            before="a small key",
        ),
    ),
    "a lock that was left": (
        Case(
            FAILURE,
            # EL's chpasswd, which has no PAM, takes it.
            "cp /usr/sbin/chpasswd /root/chpasswd; printf '%s\\n' '#!/bin/sh' "
            "'[ ! -e /etc/shadow.lock ] && exec /root/chpasswd' "
            "'echo \"chpasswd: cannot lock /etc/shadow; try again later.\" >&2; exit 1' > /root/without-pam; "
            "chmod +x /root/without-pam; mount --bind /root/without-pam /usr/sbin/chpasswd; "
            f"touch /etc/shadow.lock; {SAID}; flock /etc/held sleep 600 >/dev/null 2>&1 & sleep 0.2",
            *("last pass", "password: failed"),
            "lslocks | grep /etc/; pgrep -a 'vipw|vigr|passwd|useradd|usermod|userdel'; end it; "
            "where none of "
            "these runs: rm -f /etc/passwd.lock /etc/shadow.lock; then: csagent apply",
            (
                "lslocks | grep /etc/",
                "pgrep -a 'vipw|vigr|passwd|useradd|usermod|userdel'",
                "rm -f /etc/passwd.lock /etc/shadow.lock",
                "csagent apply",
            ),
            ends=GREP,
            shows="flock .*/etc/held(?s:.*)password: applied",
            helps=False,
            restored="umount /usr/sbin/chpasswd; pkill -x flock; pkill -x sleep; rm -f /etc/shadow.lock",
            before="password",
        ),
    ),
    "a rule for passwords": (
        Case(
            FAILURE,
            f"sed -i.kept '1i password requisite pam_deny.so' /etc/pam.d/chpasswd; {SAID}",
            *("last pass", "password: failed"),
            "journalctl -b -t chpasswd; grep -rns -e pam_pwquality -e pam_deny /etc/pam.d "
            "/etc/security; lift "
            "that rule, or set vm.password.length higher in CloudStack and reset the password; then: "
            "csagent apply",
            (
                "journalctl -b -t chpasswd",
                "grep -rns -e pam_pwquality -e pam_deny /etc/pam.d /etc/security",
                HAND + "mv /etc/pam.d/chpasswd.kept /etc/pam.d/chpasswd",
                "csagent apply",
            ),
            shows="chpasswd:1:password requisite pam_deny.so(?s:.*)password: applied",
            helps=False,
            before="password",
        ),
    ),
    "a full disk": (
        Case(
            FAILURE,
            "mkdir /run/etc; mount -t tmpfs -o size=8M tmpfs /run/etc; cp -a /etc/. /run/etc; "
            f"mount --bind /run/etc /etc; head -c 8M /dev/zero > /etc/filler 2>/dev/null; {SAID}",
            *("last pass", "password: failed"),
            "df -h; df -i; make room where it says 100%; then: csagent apply",
            ("df -h; df -i", HAND + "rm /etc/filler", "csagent apply"),
            shows="100%",
            restored="umount /etc; umount /run/etc",
            before="password",
        ),
        Case(
            *(DISK, "true", "disk", "/etc has 0 KiB left"),
            "du -xh /etc | sort -h | tail",
            shows=r"M\s/etc\n",
        ),
        Case(
            *(DISK, "mount -t tmpfs -o nr_inodes=30 tmpfs /root", "disk", "/root has"),
            "du --inodes -x /root | sort -n | tail",
            shows=r"1\s/root\n",
            helps=False,
            restored="umount /root",
        ),
    ),
    "a read-only /etc": (
        Case(
            FAILURE,
            f"mount --bind /etc /etc && mount -o remount,bind,ro /etc; {SAID}",
            *("last pass", "password: failed"),
            "dmesg | grep -i -e remount -e error; findmnt -fno TARGET --target /etc | xargs mount -o "
            "remount,rw; "
            "then: csagent apply",
            (
                "dmesg | grep -i -e remount -e error",
                "findmnt -fno TARGET --target /etc | xargs mount -o remount,rw",
                "csagent apply",
            ),
            ends=GREP,
            restored="umount /etc",
            before="password",
        ),
        Case(
            *(DISK, "true", "disk", "/etc is read-only"),
            "dmesg | grep -i -e remount -e error; then: "
            "mount -o remount,rw /etc || mount -o remount,bind,rw /etc",
            (
                "dmesg | grep -i -e remount -e error",
                "mount -o remount,rw /etc || mount -o remount,bind,rw /etc",
            ),
            ends=GREP,
        ),
    ),
    "something in the way": (
        Case(
            FAILURE,
            f"mv /root/.ssh /root/.kept; touch /root/.ssh; {SAID}",
            *("last pass", "ssh_keys: failed"),
            "namei -l /root/.ssh/authorized_keys; give what stands there another name; then: csagent apply",
            (
                "namei -l /root/.ssh/authorized_keys",
                HAND + "mv /root/.ssh /root/.ssh-file",
                "csagent apply",
            ),
            ends=GREP,
            shows=r"-rw\S+ root root \.ssh\n(?s:.*)ssh_keys: applied",
            restored="rm -rf /root/.ssh /root/.ssh-file; mv /root/.kept /root/.ssh",
            before="keys",
        ),
        look(
            FAILURE,
            "ls -ld /etc/hostname /etc/hosts /etc/shadow; give what stands there another name; "
            "then: csagent apply",
            ("ls -ld /etc/hostname /etc/hosts /etc/shadow", "csagent apply"),
            shows=r"-rw\S+ .* /etc/shadow\n",
            ends=(0, 2),
        ),
    ),
    "an immutable file": (
        Case(
            *(FAILURE, f"chattr +i /etc/shadow; {SAID}", "last pass", "password: failed"),
            "lsattr -d /etc/shadow /etc; where one has an i or an a: chattr -ia /etc/shadow /etc; "
            "then: csagent apply",
            ("lsattr -d /etc/shadow /etc", "chattr -ia /etc/shadow /etc", "csagent apply"),
            shows=r"----i\S+ /etc/shadow\n(?s:.*)password: applied",
            helps=False,
            restored="chattr -ia /etc/shadow",
            before="password",
        ),
    ),
    "an immutable directory": (
        Case(
            *(FAILURE, f"chattr +i /etc; {SAID}", "last pass", "password: failed"),
            "lsattr -d /etc; where one has an i or an a: chattr -ia /etc; then: csagent apply",
            ("lsattr -d /etc", "chattr -ia /etc", "csagent apply"),
            shows=r"----i\S+ /etc\n(?s:.*)password: applied",
            helps=False,
            restored="chattr -ia /etc",
            before="password",
        ),
    ),
}
