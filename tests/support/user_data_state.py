"""Whether a run has led to the state that a fixture's expected.yaml describes."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from typing import Any, Dict, List, Mapping

from support.user_data_tree import Scratch


def rows(scratch: Scratch, path: str) -> Dict[str, List[str]]:
    """The lines of passwd, group or shadow, by name."""
    lines = scratch.text(path).splitlines()
    return {line.split(":")[0]: line.split(":") for line in lines if line}


def differences(scratch: Scratch, expected: Mapping[str, Any], log: str) -> List[str]:
    """In what the state differs; empty where it is as it shall be.

    Args:
        scratch: after the run.
        expected: files, absent, users, no_users, groups, packages, hostname, log_contains, log_lacks,
            log_matches.
        log: what scripts have said.
    """
    wrong: List[str] = []
    passwd, group, shadow = (rows(scratch, f"/etc/{name}") for name in ("passwd", "group", "shadow"))
    users = {int(row[2]): name for name, row in passwd.items()}
    groups = {int(row[2]): name for name, row in group.items()}
    for entry in expected.get("files", ()):
        wrong += _file(scratch, entry, users, groups)
    wrong += [f"{path} should be absent" for path in expected.get("absent", ()) if scratch.path(path)]
    for entry in expected.get("users", ()):
        wrong += _user(scratch, entry, passwd, group, shadow, groups)
    wrong += [f"user {name} should not be" for name in expected.get("no_users", ()) if name in passwd]
    wrong += [f"no group {name}" for name in expected.get("groups", ()) if name not in group]
    if "hostname" in expected and scratch.told("hostname.final").strip() != expected["hostname"]:
        wrong.append(f"hostname {scratch.told('hostname.final').strip()}")
    wrong += [f"log lacks {one!r}" for one in expected.get("log_contains", ()) if one not in log]
    wrong += [f"log has {one[:30]!r}" for one in expected.get("log_lacks", ()) if one in log]
    wrong += [
        f"log does not match {one}" for one in expected.get("log_matches", ()) if not re.search(one, log)
    ]
    wrong += [f"package {name}" for name in expected.get("packages", ()) if not is_installed(scratch, name)]
    return wrong


def is_installed(scratch: Scratch, name: str) -> bool:
    """Whether dpkg says so."""
    status = scratch.text("/var/lib/dpkg/status")
    stanza = next((one for one in status.split("\n\n") if one.startswith(f"Package: {name}\n")), "")
    return "Status: install ok installed" in stanza


def _file(
    scratch: Scratch, entry: Mapping[str, Any], users: Mapping[int, str], groups: Mapping[int, str]
) -> List[str]:
    path = entry["path"]
    found = scratch.path(path)
    if found is None:
        return [f"missing {path}"]
    status = found.lstat()
    if "link" in entry:
        target = os.readlink(found) if found.is_symlink() else "no link"
        return [] if target == entry["link"] else [f"{path} links to {target}"]
    wrong = []
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    owner = f"{users.get(status.st_uid, status.st_uid)}:{groups.get(status.st_gid, status.st_gid)}"
    if entry.get("mode", mode) != mode:
        wrong.append(f"{path} has mode {mode}, not {entry['mode']}")
    if entry.get("owner", owner) != owner:
        wrong.append(f"{path} is {owner}'s, not {entry['owner']}'s")
    if stat.S_ISDIR(status.st_mode):
        return wrong
    raw = found.read_bytes()
    text = raw.decode(errors="replace")
    if "content" in entry and raw != entry["content"].encode():
        wrong.append(f"{path} has {raw[:300]!r}")
    if "sha256" in entry and hashlib.sha256(raw).hexdigest() != entry["sha256"]:
        wrong.append(f"{path} has another sha256")
    if "lines" in entry and text.splitlines() != [str(line) for line in entry["lines"]]:
        wrong.append(f"{path} has the lines {text.splitlines()}")
    wrong += [f"{path} lacks {one!r}" for one in entry.get("contains", ()) if one not in text]
    wrong += [f"{path} has {one!r}" for one in entry.get("lacks", ()) if one in text]
    return wrong


def _user(
    scratch: Scratch,
    entry: Mapping[str, Any],
    passwd: Mapping[str, List[str]],
    group: Mapping[str, List[str]],
    shadow: Mapping[str, List[str]],
    groups: Mapping[int, str],
) -> List[str]:
    name = entry["name"]
    if name not in passwd:
        return [f"no user {name}"]
    row = passwd[name]
    values = {"shell": row[6], "home": row[5], "gecos": row[4], "group": groups.get(int(row[3]))}
    values["groups"] = sorted(one for one, fields in group.items() if name in fields[3].split(","))
    wrong = []
    for key, value in values.items():
        wanted = sorted(entry[key]) if key == "groups" and key in entry else entry.get(key, value)
        if value != wanted:
            wrong.append(f"user {name}: {key} is {value!r}, not {wanted!r}")
    value = shadow[name][1]
    state = "locked" if value.startswith(("!", "*")) else "none" if not value else "usable"
    if entry.get("password", state) not in (state, value):
        wrong.append(f"user {name}: password {state}")
    if "must_change" in entry and (shadow[name][2] == "0") != entry["must_change"]:
        wrong.append(f"user {name}: must_change")
    if "keys" in entry:
        text = scratch.text(f"{row[5]}/.ssh/authorized_keys")
        keys = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        if sorted(keys) != sorted(entry["keys"]):
            wrong.append(f"user {name}: keys {keys}")
    return wrong


def report_differences(report: Mapping[str, Any], expected: Mapping[str, Any], said: str) -> List[str]:
    """In what csagent's own account of a run differs.

    Args:
        report: what `user-data run --json` says.
        expected: outcome, parts, says.
        said: all that it says, to find the expressions of `says` in.
    """
    wrong = []
    if report.get("state") != expected["outcome"]:
        wrong.append(f"the state is {report.get('state')}, not {expected['outcome']}")
    wanted, parts = expected.get("parts", ()), report.get("parts", ())
    if "parts" in expected and len(wanted) != len(parts):
        wrong.append(f"{len(parts)} parts, not {len(wanted)}")
    for number, (entry, part) in enumerate(zip(wanted, parts)):
        found = {**part, "warnings": len(part["warnings"]), "template": "jinja" if part["template"] else None}
        wrong += [
            f"part {number}: {key} is {found.get(key)!r}, not {value!r}"
            for key, value in entry.items()
            if found.get(key) != value
        ]
    wrong += [f"does not say {one}" for one in expected.get("says", ()) if not re.search(one, said, re.I)]
    return wrong
