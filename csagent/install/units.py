"""`csagent install-units`: what a distribution's package would bring, where csagent was installed by pip.

Units, their enablement, a settings file, the account of the reading children. The files come from the
wheel's `csagent/data`, or from a checkout. Everything is compared before it is written, so that a second run,
after an upgrade by pip, changes what the new version changes. A unit that was disabled since stays so.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from csagent import __version__
from csagent.errors import CsagentError, UsageError
from csagent.system.trusted_path import (
    refuse_if_others_may_change,
    refuse_if_others_may_change_below,
)

if TYPE_CHECKING:
    import argparse

    from csagent.system.seams import System

UNITS = (
    *("csagent.service", "csagent-host-keys.service", "csagent-first-pass.service", "csagent-ready.target"),
    "csagent-weight.service",
    *("csagent-console.path", "csagent-console.service"),
    *("csagent-user-data.path", "csagent-user-data-early.service", "csagent-user-data.service"),
    *("csagent-user-data-after-boot.service", "csagent-user-data.target"),
)
UNIT_DIRECTORY = "/etc/systemd/system"
PRESET = "/etc/systemd/system-preset/80-csagent.preset"
LOGROTATE = "/etc/logrotate.d/csagent"
PACKAGE_DIRECTORIES = ("/usr/lib/systemd/system", "/lib/systemd/system")
SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
SETTINGS = "/etc/csagent/csagent.yaml"
DROP_INS = "/etc/csagent/conf.d"
ACCOUNT = "csagent"
USERADD = "useradd --system --user-group --no-create-home --home-dir /nonexistent --shell {} " + ACCOUNT
MARK = "# Written by `csagent install-units`; `csagent install-units --remove` takes it away.\n"
COMMAND_IN_UNITS = "/usr/bin/csagent"
TIMEOUT = 60.0

# What systemd takes as it stands in an ExecStart=.
_PLAIN = re.compile(r"/[A-Za-z0-9/._+-]+\Z", re.ASCII)
_INTERPRETER = re.compile(rb"#!\s*(/\S*python[0-9.]*)((?:\s+-[A-Za-z]+)*)\s*\n")
# pip's way round the kernel's limit on the first line's length.
_BY_SHELL = re.compile(rb"#!/bin/sh\n'''exec' \"?(/[^\"\n]*python[0-9.]*)\"? \"\$0\" \"\$@\"\n")
_MODULE_PATH = "import sys; print(sys.prefix + '/pyvenv.cfg', *sys.path, sep='\\n')"
_WANTED = re.compile(r"^(WantedBy|RequiredBy)=(.*)$", re.MULTILINE)

OnStep = Callable[[str, str], None]  # a file or an account, and what was done with it


class Unit(NamedTuple):
    """A unit as it is written, and the links that enable it."""

    path: str
    text: str
    links: Tuple[str, ...]


def run(parsed: "argparse.Namespace") -> int:
    """`csagent install-units`."""
    from csagent.console import Console
    from csagent.system.seams import System

    system = System.at(parsed.root)
    steps: List[Tuple[str, str]] = []
    if parsed.remove:
        notes = remove(system, lambda what, done: steps.append((what, done)))
    else:
        script = parsed.exec or _own_script()
        notes = install(system, script, lambda what, done: steps.append((what, done)))
    if parsed.json:
        import json

        done = [{"what": what, "done": done} for what, done in steps]
        sys.stdout.write(json.dumps({"schema": 1, "steps": done, "notes": notes}, indent=1) + "\n")
    elif not parsed.quiet:
        console = Console.of()
        lines = [line for what, done in steps for line in console.wrap(what, 12, done)]
        lines += [line for note in notes for line in console.wrap(note)]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def install(system: "System", script: str, say: OnStep) -> List[str]:
    """Write units, preset, settings file and account; return what is left to do, in sentences.

    Args:
        system: whose /etc to write to.
        script: the console script as that system finds it.
        say: told each step.

    Raises:
        UsageError: a package's units or an administrator's own are there, or the script is not to be trusted.
        CsagentError: something could not be written.
    """
    _refuse_unless_ours(system)
    refuse_if_others_may_change(system, UNIT_DIRECTORY)
    command = command_line(system, script)
    units = [_unit(name, command) for name in UNITS]
    written: List[str] = []

    def write(path: str, text: str) -> None:
        with _naming(system, path):
            system.tree.mkdir(os.path.dirname(path), 0o755)
            new = not system.tree.exists(path)
            changed = system.tree.write(path, text.encode(), 0o644)
        if changed:
            written.append(path)
            say(path, "written" if new else "changed")
        else:
            say(path, "unchanged")

    notes: List[str] = []
    for unit in units:
        # A unit without its links is one that was disabled; so they come first, lest a kill makes it one.
        for link in unit.links if not system.tree.exists(unit.path) else ():
            _link(system, link, unit.path)
        write(unit.path, unit.text)
        if unit.links:
            on = all(system.tree.stat(link, follow=False) is not None for link in unit.links)
            say(os.path.basename(unit.path), "enabled" if on else "disabled")
    write(PRESET, MARK + _data("80-csagent.preset"))
    write(LOGROTATE, MARK + _data("csagent.logrotate"))
    with _naming(system, DROP_INS):
        system.tree.mkdir(DROP_INS, 0o755)
    if system.tree.exists(SETTINGS):
        say(SETTINGS, "kept")
    else:
        write(SETTINGS, _data("csagent.yaml"))
    notes += _account(system, say)
    if system.live:
        from csagent.system import selinux

        selinux.relabel(system, *written)
        system.runner.run(["systemctl", "daemon-reload"], timeout=TIMEOUT)
        notes.append("It starts at the next boot; now: systemctl start csagent.service. Not in a template.")
    return notes


def remove(system: "System", say: OnStep) -> List[str]:
    """Stop and take away what `install` wrote; return what was kept, in sentences.

    Raises:
        CsagentError: something could not be removed.
    """
    _must_be_root(system)
    ours = [name for name in UNITS if _is_ours(system, f"{UNIT_DIRECTORY}/{name}")]
    if ours and system.live:
        system.runner.run(["systemctl", "disable", "--now", *ours], timeout=TIMEOUT)
    goes: List[str] = []
    for name in ours:
        for kind in ("wants", "requires"):
            goes += system.tree.glob(f"{UNIT_DIRECTORY}/*.{kind}/{name}")
        goes.append(f"{UNIT_DIRECTORY}/{name}")
    goes += [path for path in (PRESET, LOGROTATE) if _is_ours(system, path)]
    for path in goes:
        with _naming(system, path):
            removed = system.tree.remove(path)
        if removed:
            say(path, "removed")
    if not ours:
        return ["Nothing of install-units is here."]
    if system.live:
        system.runner.run(["systemctl", "daemon-reload"], timeout=TIMEOUT)
    return [f"Kept: /etc/csagent, /var/lib/csagent (what was applied) and the account {ACCOUNT}."]


def command_line(system: "System", script: str) -> str:
    """What an ExecStart= begins with: the interpreter, isolated, and the console script.

    Raises:
        UsageError: there is no such script, it is no console script of csagent, it does not run by itself, or
            somebody else than root could change it.
    """
    shown = system.tree.shown(script)
    try:
        head = system.tree.read(script, 4096)
    except OSError as error:
        where = "" if system.live else "; install csagent into the tree, and name its script with --exec PATH"
        raise UsageError(f"{shown}: {error.strerror}{where}") from None
    found = _INTERPRETER.match(head) or _BY_SHELL.match(head)
    if found is None or b"csagent" not in head:
        raise UsageError(f"{shown} is not csagent's console script")
    interpreter = os.fsdecode(found.group(1))
    for path in (script, interpreter):
        if not _PLAIN.match(path):
            raise UsageError(
                f"{path}: a unit cannot name this path; install csagent elsewhere, such as in /opt"
            )
        refuse_if_others_may_change(system, path)
    if system.live:
        for library in (*_libraries(system, interpreter), _package()):
            refuse_if_others_may_change_below(system, library)
        done = system.runner.run([interpreter, "-I", script, "--version"], timeout=TIMEOUT)
        if done.code != 0:
            raise UsageError(
                f"{interpreter} -I {script} does not run: csagent must be installed for all, not for one user"
            )
    return f"{interpreter} -I {script}"


def _libraries(system: "System", interpreter: str) -> Sequence[str]:
    """Where the unit's interpreter takes its modules from, and what decides that.

    Raises:
        UsageError: it does not run.
    """
    done = system.runner.run([interpreter, "-I", "-c", _MODULE_PATH], timeout=TIMEOUT)
    if done.code != 0:
        raise UsageError(f"{interpreter} -I does not run")
    return [path for path in os.fsdecode(done.output).split("\n") if path]


def _own_script() -> str:
    """The console script that runs, or the one beside the interpreter (`python -m csagent`)."""
    script = os.path.abspath(sys.argv[0])
    if os.path.basename(script) != "csagent":
        script = os.path.join(os.path.dirname(os.path.abspath(sys.executable)), "csagent")
    return script


def _package() -> str:
    """The directory of the package csagent."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _data(name: str) -> str:
    package = _package()
    beside = ("../systemd", "../packaging/debian", "../packaging/rpm")  # in a checkout
    for directory in ("data", *beside):
        try:
            with open(os.path.join(package, directory, name), encoding="utf-8") as stream:
                return stream.read()
        except FileNotFoundError:
            continue
    raise CsagentError(f"{package}/data/{name} is missing: csagent was not installed from its wheel")


def _unit(name: str, command: str) -> Unit:
    text = _data(name)
    links = tuple(
        f"{UNIT_DIRECTORY}/{target}.{'wants' if kind == 'WantedBy' else 'requires'}/{name}"
        for kind, targets in _WANTED.findall(text)
        for target in targets.split()
    )
    ours = re.compile(rf"(?<![\w/]){re.escape(COMMAND_IN_UNITS)}(?=\s)")  # a shell may stand before it
    lines = re.compile(r"^Exec\w+=(?:.*\\\n)*.*", re.MULTILINE)  # with those that continue it
    text = lines.sub(lambda line: ours.sub(lambda _: command, line[0]), text)
    return Unit(f"{UNIT_DIRECTORY}/{name}", f"{MARK}# Of csagent {__version__}.\n{text}", links)


def _must_be_root(system: "System") -> None:
    if system.live and os.geteuid() != 0:
        raise UsageError("install-units needs root (or a tree of yours to work on: --root DIR)")


def _refuse_unless_ours(system: "System") -> None:
    _must_be_root(system)
    if not any(system.tree.exists(path) for path in SYSTEMD):
        raise UsageError(f"no systemd in {system.tree.root}: there is nothing that would read the units")
    for name in UNITS:
        for directory in PACKAGE_DIRECTORIES:
            if system.tree.exists(f"{directory}/{name}"):
                where = system.tree.shown(f"{directory}/{name}")
                raise UsageError(
                    f"{where} is there already, from a package of the distribution: nothing was changed"
                )
    for path in (*(f"{UNIT_DIRECTORY}/{name}" for name in UNITS), PRESET, LOGROTATE):
        if system.tree.stat(path, follow=False) is not None and not _is_ours(system, path):
            where = system.tree.shown(path)
            raise UsageError(f"{where} is not of install-units: remove it first, or keep it and do without")


def _is_ours(system: "System", path: str) -> bool:
    status = system.tree.stat(path, follow=False)
    if status is None or not stat.S_ISREG(status.st_mode):
        return False  # a link to /dev/null: an administrator has masked it
    return (system.tree.read_text(path) or "").startswith(MARK)


def _link(system: "System", link: str, target: str) -> None:
    with _naming(system, link):
        system.tree.mkdir(os.path.dirname(link), 0o755)
        directory, name = system.tree.resolve(link, follow=False)
        try:
            os.symlink(target, name, dir_fd=directory)
        except FileExistsError:
            pass
        else:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextmanager
def _naming(system: "System", path: str) -> Iterator[None]:
    """Turn an OSError into a CsagentError with the whole path, or with the link that leads nowhere."""
    try:
        yield
    except OSError as error:
        for step in _above(path):
            if system.tree.readlink(step) is not None and not system.tree.exists(step):
                raise CsagentError(f"install-units: {system.tree.shown(step)} is a link to nothing") from None
        raise CsagentError(f"install-units: {system.tree.shown(path)}: {error.strerror}") from None


def _above(path: str) -> Iterator[str]:
    """The directories above a path, the highest first, and the path."""
    parts = path.split("/")
    return ("/".join(parts[: depth + 1]) for depth in range(1, len(parts)))


def _account(system: "System", say: OnStep) -> List[str]:
    """Make the account; where that does not go, the sentence that says how."""
    from csagent.errors import ApplyError
    from csagent.system import accounts

    try:
        found = accounts.find(system, ACCOUNT)
    except ApplyError:
        pass
    else:
        say(f"account {ACCOUNT}", "kept")
        reason = accounts.why_no_reader(system, found)
        unused = f"The account {ACCOUNT} is not used, {reason}: the reading children run as nobody."
        return [unused] if reason else []
    shells = (path for path in ("/usr/sbin/nologin", "/sbin/nologin") if system.tree.exists(path))
    command = USERADD.format(next(shells, "/bin/false"))
    code: Optional[int] = system.runner.run(command.split(), timeout=TIMEOUT).code
    if code == 0:
        say(f"account {ACCOUNT}", "made")
        return []
    where = "" if system.live else f", in {system.tree.root}"
    without = "without which the reading children run as nobody"
    return [f"The account {ACCOUNT}, {without}, is yours to make{where}: {command}"]
