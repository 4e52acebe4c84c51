"""The .rpm packages: like the .deb but for the paths; what installing, upgrading and erasing one does.

There is no EL here: rpm installs into a Debian tree, and the scripts use its Python, useradd and systemctl.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest
from support.debian_image import REPOSITORY, Installed, run
from support.network_segment import Guest
from support.requirements import require

import csagent

OLD = "0.0.9"
RPMLINT = REPOSITORY / "packaging/rpm/rpmlint.toml"
SETTINGS, DROP_IN = "/etc/csagent/csagent.yaml", "/etc/csagent/conf.d/site.yaml"
MEMORY = "/var/lib/csagent/instances/3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e5f.json"
UNIT, NEW_UNIT = SERVICES = ("csagent.service", "csagent-host-keys.service")
MODULES = "/usr/share/csagent/csagent"

# Where an .rpm has what a .deb has elsewhere.
ELSEWHERE = (
    ("/usr/lib/python3/dist-packages/csagent", MODULES),
    ("/lib/systemd/system/", "/usr/lib/systemd/system/"),
    ("/usr/share/zsh/vendor-completions/", "/usr/share/zsh/site-functions/"),
)
# What makes a package of the lab, which was in csagent before.
LAB_OF_THE_SPEC = (
    *(
        r"^%package lab\n.*?(?=^%prep)",
        r"^%post lab\n.*?(?=^# A new Python)",
        r"^%triggerin lab .*?(?=^%files$)",
    ),
    # And one that came after that.
    r"^install [^\n]*packaging/cloud-init-compat/.*?(?=^\(cd manual)",
    *(r"^%exclude %\{labdir\}\n", r"^%files lab\n.*?(?=^%changelog)", r" -x '\^%\{labdir\}/'"),
)
ONLY_DEB = r"/usr/share/(doc|lintian)/.*"
ONLY_RPM = (
    r"/usr/share/(doc|licenses)/.*|/usr/lib/systemd/system-preset/80-csagent(-cloud-init-compat)?\.preset"
)


def contents(archive: bytes) -> Dict[str, Tuple[int, bytes]]:
    """Mode and bytes of every regular file in a tar archive, by path; manual pages uncompressed."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            stream = members.extractfile(member)
            if stream is not None:
                text = stream.read()
                path = "/" + member.name.lstrip("./")
                found[path] = (member.mode & 0o7777, gzip.decompress(text) if path.endswith(".gz") else text)
    return found


def rpm_contents(package: Path, directory: Path) -> Dict[str, Tuple[int, bytes]]:
    """What is in an .rpm."""
    copy = directory / package.name
    copy.write_bytes(package.read_bytes())
    run(["rpm2archive", copy], 60, HOME=str(directory))  # Debian's rpm has its database there
    return contents(Path(f"{copy}.tgz").read_bytes())


def queried(package: Path, *words: str) -> str:
    """What `rpm --query --package` says."""
    return run(["rpm", "--query", f"--dbpath={package.parent}/db", "--package", *words, package], 30).stdout


def test_same_files_as_the_deb(
    all_debs: List[Path],
    rpms: Tuple[Path, Path],
    lab_rpms: Tuple[Path, Path],
    compat_rpms: Tuple[Path, Path],
    tmp_path: Path,
) -> None:
    """Every file of the .deb is in the .rpm, with the same bytes and mode, and the other way round."""
    expected = expected_of(all_debs[0])
    for package in rpms:
        found = rpm_contents(package, tmp_path)
        assert {path for path in found if not re.fullmatch(ONLY_RPM, path)} == set(expected)
        differing = {path for path, entry in expected.items() if found[path] != entry}
        assert differing == {"/usr/bin/csagent"}
        assert found["/usr/bin/csagent"][0] == expected["/usr/bin/csagent"][0] == 0o755
    for package in lab_rpms:
        found = rpm_contents(package, tmp_path)
        ours = {path: entry for path, entry in found.items() if not re.fullmatch(ONLY_RPM, path)}
        assert ours == expected_of(all_debs[1])
    expected = expected_of(all_debs[2])
    for package, interpreter in zip(compat_rpms, ("python3", "python3.9")):
        found = rpm_contents(package, tmp_path)
        assert {path for path in found if not re.fullmatch(ONLY_RPM, path)} == set(expected)
        assert {path for path, entry in expected.items() if found[path] != entry} == {"/usr/bin/cloud-init"}
        mode, script = found["/usr/bin/cloud-init"]
        assert mode == 0o755 and script.startswith(f"#!/usr/bin/{interpreter} -I\n".encode())
        assert b"from csagent.cli.cloud_init_compat import entry\n" in script
        assert "cloud-init" in queried(package, "--conflicts").split("\n")


def expected_of(deb: Path) -> Dict[str, Tuple[int, bytes]]:
    """What a .deb has, by the paths of an .rpm."""
    tar = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True, timeout=600
    ).stdout
    expected = {}
    for path, entry in contents(tar).items():
        for here, there in ELSEWHERE:
            path = there + path[len(here) :] if path.startswith(here) else path
        if not re.fullmatch(ONLY_DEB, path):
            expected[path] = entry
    return expected


def test_el_8_has_its_python_of_the_module(rpms: Tuple[Path, Path], tmp_path: Path) -> None:
    """Interpreter and dependencies are python39's there, and the system's python3 elsewhere."""
    current, el8 = (queried(one, "--requires").split("\n") for one in rpms)
    assert {"python3 >= 3.9", "python3-pyyaml", "libseccomp"} <= set(current)
    assert {"python39", "python39-pyyaml", "libseccomp"} <= set(el8)
    assert not any("python3-" in line for line in el8)
    # Nothing that EL lacks is demanded: netifaces (EL 10), pycdlib (all).
    wished = queried(rpms[0], "--recommends").split("\n")
    assert {"python3-netifaces", "python3-pyudev", "(python3-pycdlib or csagent-pycdlib)"} <= set(wished)
    for package, interpreter in zip(rpms, ("python3", "python3.9")):
        script = rpm_contents(package, tmp_path)["/usr/bin/csagent"][1].decode()
        assert script.startswith(f"#!/usr/bin/{interpreter} -I\n") and '"/usr/share/csagent"' in script


def test_the_lab_needs_the_csagent_of_its_build(
    rpms: Tuple[Path, Path], lab_rpms: Tuple[Path, Path], tmp_path: Path
) -> None:
    """To the release, on each system; an older csagent, which had the lab in it, cannot stay beside it."""
    for package, lab in zip(rpms, lab_rpms):
        (itself,) = (
            line for line in queried(package, "--provides").split("\n") if line.startswith("csagent =")
        )
        assert itself in queried(lab, "--requires").split("\n")
        assert "csagent-lab" not in queried(package, "--requires", "--recommends", "--obsoletes")
        script = rpm_contents(package, tmp_path)["/usr/bin/csagent"][1].decode().split()[0][2:]
        assert f"{script} -I -m compileall" in queried(lab, "--scripts")


def test_rpmlint_finds_nothing(all_rpms: List[Path], libraries: Tuple[Path, Path]) -> None:
    """No error and no warning but those that rpmlint.toml leaves out, each with its reason."""
    require(("rpmlint",), "checks the packages")
    spec = REPOSITORY / "packaging/rpm/csagent.spec"
    environment = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(all_rpms[0].parent)}
    done = subprocess.run(
        ["rpmlint", "--config", RPMLINT, *all_rpms, libraries[1], spec],
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )
    assert "7 packages and 1 specfiles checked" in done.stdout
    assert (done.returncode, "0 errors, 0 warnings" in done.stdout) == (0, True), done.stdout + done.stderr


def test_same_sdist_gives_the_same_packages(
    all_rpms: List[Path], sdist_and_wheel: Tuple[Path, Path], tmp_path: Path
) -> None:
    """Byte for byte, whatever the time and the directory."""
    again = run([REPOSITORY / "packaging/build-rpm", tmp_path, sdist_and_wheel[0]], 120).stdout.split()
    assert [Path(one).name for one in again] == [one.name for one in all_rpms]
    assert [Path(one).read_bytes() for one in again] == [one.read_bytes() for one in all_rpms]


def test_pycdlib_for_el_is_seen_by_csagent_alone(libraries: Tuple[Path, Path], tmp_path: Path) -> None:
    """It lies beside csagent's own modules, with its licence, in no directory of Python's."""
    paths = set(rpm_contents(libraries[1], tmp_path))
    assert "/usr/share/csagent/pycdlib/pycdlib.py" in paths
    assert all(path.startswith(("/usr/share/csagent/pycdlib/", "/usr/share/licenses/")) for path in paths)


class Machine:
    """A Debian tree in which rpm rules over csagent."""

    def __init__(self, guest: Guest, database: Path) -> None:
        self.guest = guest
        self.root = Path(f"/proc/{guest.pid}/root")
        # SQLite resolves the path of its file, and takes that of the guest's root for this machine's.
        self.database = database
        database.mkdir()
        guest.do("mkdir", "-p", str(database))
        guest.do("dpkg", "--purge", "csagent")
        guest.do("userdel", "csagent")

    def rpm(self, *words: object) -> str:
        """Run this machine's rpm on the tree; its scripts run in there."""
        return run(
            ["rpm", f"--root={self.root}", f"--dbpath={self.database}", "--nodeps", *words],
            120,
            SYSTEMD_OFFLINE="1",
        ).stdout

    def enabled(self) -> Tuple[str, ...]:
        """What systemctl says of the services, "" of one that is not there."""
        asked = (self.guest.run("systemctl", "--root=/", "is-enabled", name).stdout for name in SERVICES)
        return tuple(said.strip() for said in asked)

    def text(self, path: str) -> str:
        """The text of a file."""
        return (self.root / path.lstrip("/")).read_text()

    def exists(self, path: str) -> bool:
        """Whether a path is there."""
        return os.path.lexists(self.root / path.lstrip("/"))

    def put(self, path: str, text: str) -> None:
        """Write a file as the machine's owner would."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


@pytest.fixture
def machine(image: Installed, tmp_path: Path) -> Iterator[Machine]:
    """A machine without csagent."""
    guest = Guest(image, tmp_path / "guest")
    try:
        yield Machine(guest, tmp_path / "rpmdb")
    finally:
        guest.close()


@pytest.fixture(scope="session")
def older(sdist_and_wheel: Tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of an earlier release: another settings file, a module and the lab more, a unit fewer."""
    directory = tmp_path_factory.mktemp("older")
    run(["tar", "-xzf", sdist_and_wheel[0], "-C", directory], 30)
    top = directory / f"csagent-{OLD}"
    (directory / f"csagent-{csagent.__version__}").rename(top)
    init = top / "csagent/__init__.py"
    init.write_text(init.read_text().replace(csagent.__version__, OLD))
    (top / "csagent/gone_since.py").write_text("")
    settings = top / "packaging/debian/csagent.yaml"
    settings.write_text("# An older text.\n" + settings.read_text())
    (top / "systemd" / NEW_UNIT).unlink()
    for name in ("csagent.spec", "80-csagent.preset"):
        path = top / "packaging/rpm" / name
        path.write_text(
            re.sub(rf"^(?:enable |%{{unitdir}}/)?{NEW_UNIT}\n| {NEW_UNIT}", "", path.read_text(), flags=re.M)
        )
    (top / "manual/man/man1/csagent-lab.1").unlink()
    spec = top / "packaging/rpm/csagent.spec"
    text = spec.read_text()
    for piece in LAB_OF_THE_SPEC:
        text, found = re.subn(piece, "", text, flags=re.M | re.S)
        assert found == 1, piece
    spec.write_text(text)
    archive = directory / f"csagent-{OLD}.tar.gz"
    run(["tar", "-czf", archive, "-C", directory, top.name], 30)
    return Path(run([REPOSITORY / "packaging/build-rpm", directory, archive], 120).stdout.split()[0])


@pytest.mark.netns
@pytest.mark.root
def test_life_of_the_package(machine: Machine, rpms: Tuple[Path, Path], older: Path) -> None:
    """Installed, used, upgraded, downgraded, erased: what is the owner's stays, the rest goes.

    A unit that an upgrade brings is enabled by it, and one that was disabled stays so.
    """
    machine.rpm("--install", older)
    assert machine.guest.do("csagent", "--version") == f"csagent {OLD}\n"
    account = machine.guest.do("getent", "passwd", "csagent").strip().split(":")
    assert account[5:] == ["/nonexistent", "/sbin/nologin"]
    assert machine.enabled() == ("enabled", "")
    assert list((machine.root / MODULES.lstrip("/") / "__pycache__").glob("agent.*.pyc"))
    assert (machine.root / "var/lib/csagent").stat().st_mode & 0o7777 == 0o700
    assert machine.guest.csagent("discover")["schema"] == 1

    machine.put(SETTINGS, "user: root\n")
    machine.put(DROP_IN, "wait: 20\n")
    machine.put(MEMORY, "{}\n")
    machine.guest.do("systemctl", "--root=/", "disable", UNIT)
    newer = (rpms[0], csagent.__version__, ("disabled", "enabled"))
    for package, version, enabled in (newer, (older, OLD, ("disabled", "")), newer):
        machine.rpm("--upgrade", "--oldpackage", package)
        assert machine.guest.do("csagent", "--version") == f"csagent {version}\n"
        assert machine.text(SETTINGS) == "user: root\n" and machine.text(DROP_IN) == "wait: 20\n"
        assert machine.enabled() == enabled and machine.text(MEMORY) == "{}\n"
    assert "#user: root" in machine.text(SETTINGS + ".rpmnew")
    assert not machine.exists(MODULES + "/gone_since.py")
    machine.guest.do("systemctl", "--root=/", "disable", NEW_UNIT)
    machine.rpm("--upgrade", "--replacepkgs", rpms[0])
    assert machine.enabled() == ("disabled", "disabled")
    assert not machine.exists("/var/lib/rpm-state/csagent")
    machine.guest.do("systemctl", "--root=/", "enable", *SERVICES)

    machine.rpm("--erase", "csagent")
    assert machine.text(SETTINGS + ".rpmsave") == "user: root\n" and machine.text(DROP_IN) == "wait: 20\n"
    assert machine.text(MEMORY) == "{}\n" and machine.guest.do("getent", "passwd", "csagent")
    gone = ("/usr/share/csagent", "/usr/bin/csagent", "/usr/lib/systemd/system-preset/80-csagent.preset")
    links = tuple(f"/etc/systemd/system/multi-user.target.wants/{name}" for name in SERVICES)
    assert [path for path in (*gone, *links) if machine.exists(path)] == []


def test_scripts_restart_the_daemon_once_and_restore_contexts(rpms: Tuple[Path, Path]) -> None:
    """On an upgrade the new files, with SELinux' contexts, are in place before the restart."""
    scripts = queried(rpms[0], "--scripts")
    post, preun, postun = (
        re.split(r"^\w+ scriptlet \(using /bin/sh\):$|^trigger", part, flags=re.M)[0]
        for part in re.split(
            r"^(?:postinstall|preuninstall|postuninstall) scriptlet.*$", scripts, flags=re.M
        )[1:]
    )
    assert "restorecon -RF /etc/csagent /var/lib/csagent" in post and "restart" not in post + preun
    assert "disable --now" in preun and preun.strip().startswith("if [ $1 -eq 0 ]")
    assert postun.index("[ $1 -ge 1 ]") < postun.index("systemctl try-restart csagent.service")


@pytest.mark.netns
@pytest.mark.root
def test_the_compat_package_comes_and_goes(
    machine: Machine, rpms: Tuple[Path, Path], compat_rpms: Tuple[Path, Path]
) -> None:
    """Its unit is enabled, also after an upgrade if it still was; erased, its files and its word are gone."""
    unit = "csagent-cloud-init-compat.service"
    machine.rpm("--install", rpms[0], compat_rpms[0])
    assert machine.guest.do("cloud-init", "status") == "status: not run\n"
    assert machine.guest.do("systemctl", "--root=/", "is-enabled", unit) == "enabled\n"
    machine.guest.do("systemctl", "--root=/", "disable", unit)
    machine.rpm("--upgrade", "--replacepkgs", compat_rpms[0])
    assert machine.guest.run("systemctl", "--root=/", "is-enabled", unit).stdout == "disabled\n"
    machine.guest.do("systemctl", "--root=/", "enable", unit)
    words = ("/run/cloud-init/result.json", "/var/lib/cloud/instance/boot-finished")
    for path in words:
        machine.put(path, "")
    machine.rpm("--erase", "csagent-cloud-init-compat")
    link = f"/etc/systemd/system/multi-user.target.wants/{unit}"
    assert [path for path in (*words, link, "/usr/bin/cloud-init") if machine.exists(path)] == []
    assert machine.guest.do("csagent", "--version") == f"csagent {csagent.__version__}\n"


@pytest.mark.netns
@pytest.mark.root
def test_the_lab_leaves_csagent_when_it_is_upgraded(
    machine: Machine, rpms: Tuple[Path, Path], lab_rpms: Tuple[Path, Path], older: Path
) -> None:
    """Nothing of it is left, and its package brings it; both at once take over what the older csagent had.

    Erased, it leaves nothing behind; nor does csagent, whichever of them it once had in it.
    """
    lab, code = f"{MODULES}/lab", f"{MODULES}/lab/vm/__pycache__"
    machine.rpm("--install", older)
    assert machine.exists(f"{lab}/command.py") and machine.exists(code)
    machine.rpm("--upgrade", rpms[0])
    assert not machine.exists(lab)
    done = machine.guest.run("csagent", "lab", "demo")
    assert done.returncode == 2 and "dnf install ./csagent-lab-" in done.stderr

    machine.rpm("--install", lab_rpms[0])
    assert machine.exists(code) and machine.guest.do("csagent", "lab", "router", "--example")
    machine.rpm("--upgrade", "--replacepkgs", rpms[0], lab_rpms[0])
    assert machine.exists(code)
    machine.rpm("--erase", "csagent-lab")
    assert not machine.exists(lab) and not machine.exists("/usr/share/man/man1/csagent-lab.1.gz")

    machine.rpm("--upgrade", "--oldpackage", older)
    machine.rpm("--upgrade", rpms[0], lab_rpms[0])
    assert machine.exists(code) and machine.guest.do("csagent", "lab", "router", "--example")
    machine.rpm("--erase", "csagent", "csagent-lab")
    left = machine.guest.do("find", "/usr", "-xdev", "-name", "*csagent*").split()
    assert [path for path in left if "csagent-test" not in path] == []
