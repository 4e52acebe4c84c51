from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from csagent import settings
from csagent.errors import SettingsError
from csagent.settings import Settings
from csagent.system.seams import System


def load(tree: Path, text: str) -> Settings:
    (tree / "etc/csagent").mkdir(exist_ok=True)
    (tree / "etc/csagent/csagent.yaml").write_text(text)
    return settings.load(System.at(str(tree)))


def test_defaults_without_files(system: System) -> None:
    """No file at all is the normal case."""
    assert settings.load(system) == Settings()


def test_comments_only_do_not_import_yaml(tree: Path) -> None:
    """A file in which nothing is said costs no import of PyYAML."""
    import subprocess

    (tree / "etc/csagent").mkdir()
    (tree / "etc/csagent/csagent.yaml").write_text("# user: root\n\n---\n")
    code = (
        "import sys; from csagent import settings; from csagent.system.seams import System;"
        f"settings.load(System.at({str(tree)!r})); print('yaml' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "False\n"


def test_every_setting(tree: Path) -> None:
    """All keys are read; a drop-in wins over the main file."""
    (tree / "etc/csagent/conf.d").mkdir(parents=True)
    (tree / "etc/csagent/conf.d/50-site.yaml").write_text("poll: 0\nhostname: false\n")
    read = load(
        tree,
        "user: alice\nsources: [drive]\nssh_keys: false\npassword: false\nnetwork: false\n"
        "drive_labels: [config-2, MY-CD]\ndrive_devices: /dev/loop0\n"
        "cloud_init: csagent\nwait: 2.5\npoll: 60\n"
        "create_user: true\nuser_data: keep\n",
    )
    assert read == Settings(
        "alice",
        ("drive",),
        False,
        False,
        False,
        False,
        "csagent",
        ("config-2", "MY-CD"),
        ("/dev/loop0",),
        2.5,
        0.0,
        True,
        "keep",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("usr: root\n", ["line 1", '"usr"', '"user"']),
        ("user: root\n\nhostnames: true\n", ["line 3", '"hostname"']),
        ("xyzzy: 1\n", ["known keys"]),
        ("user: [a]\n", ["line 1", "user"]),
        ("user: 'a:b'\n", ["user"]),
        ("hostname: maybe\n", ["true or false"]),
        ("sources: [router, cloud]\n", ["router and drive"]),
        ("sources: []\n", ["router and drive"]),
        ("user_data: maybe\n", ["run, keep or false"]),
        ("cloud_init: true\n", ["cloud_init", "auto, csagent or cloud-init"]),
        ("wait: -1\n", ["seconds"]),
        ("wait: true\n", ["seconds"]),
        ("poll: .nan\n", ["seconds"]),
        ("drive_labels: []\n", ["labels"]),
        ("- a\n", ["line 1"]),
        ("user: a\nuser: b\n", ["line 2", "twice"]),
        ("user: {\n", ["line"]),
        ("a: &x 1\nb: *x\n", ["aliases"]),
        ("user: !!python/object/apply:os.system ['true']\n", ["line 1"]),
        ("wait: " + "1:" * 1500 + "1\n", ["seconds"]),
        ("a: " + "[" * 70 + "]" * 70 + "\n", ["deep"]),
        ("user: " + "x" * 5000 + "\n", ["characters"]),
    ],
)
def test_bad_settings_are_one_line(tree: Path, text: str, words: list[str]) -> None:
    """A mistake names the file, the line and what to write instead."""
    with pytest.raises(SettingsError) as caught:
        load(tree, text)
    message = str(caught.value)
    assert "csagent.yaml" in message and "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {k: 1}\n" + "".join(f"b{n}: &b{n} {{<<: [*a, *a]}}\n" for n in range(20)),
        "a:\n" + "".join(" " * n + "- \n" for n in range(1, 3000)),
        "- " * 26000,
        "[" * 30000,
        "a: " + "x" * (2 << 20),
        "\n".join(f"k{n}: {n}" for n in range(40000)),
    ],
)
def test_yaml_bombs_end_soon(tree: Path, text: str) -> None:
    """What takes PyYAML seconds, gigabytes or a crash is refused within two seconds."""
    start = time.process_time()
    with pytest.raises(SettingsError):
        load(tree, text)
    assert time.process_time() - start < 5


def test_config_option_replaces_both_places(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """--config FILE is read instead of /etc/csagent, and must be there."""
    load(tree, "user: alice\n")
    other = tmp_path_factory.mktemp("x") / "other.yaml"
    other.write_text("wait: 3\n")
    assert settings.load(System.at(str(tree)), str(other)) == Settings(wait=3.0)
    with pytest.raises(SettingsError, match="No such file"):
        settings.load(System.at(str(tree)), str(other) + "x")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize("where", ["etc/csagent", "etc/csagent/csagent.yaml", "etc/csagent/conf.d/1.yaml"])
@pytest.mark.parametrize(("owner", "mode"), [(1000, 0o755), (998, 0o755), (0, 0o757), (0, 0o775)])
def test_settings_that_others_could_have_written(tree: Path, where: str, owner: int, mode: int) -> None:
    """They say who gets root's password: where others can write one, nothing is done, and why."""
    (tree / "etc/csagent/conf.d").mkdir(parents=True)
    (tree / "etc/csagent/conf.d/1.yaml").write_text("poll: 60\n")
    system = System.at(str(tree))
    system.tree.live = True
    tree.chmod(0o755)
    (tree / "etc/group").write_text("staff:x:50:\n")
    (tree / "etc/csagent/csagent.yaml").write_text("user: mallory\n")
    assert settings.load(system).user == "mallory"
    os.chown(tree / where, owner, 50)
    (tree / where).chmod(mode)
    with pytest.raises(SettingsError, match="says whom root obeys") as caught:
        settings.load(system)
    assert str(tree / where) in str(caught.value) or f"/{where}" in str(caught.value)


@pytest.mark.parametrize(
    "value", ["[loop0]", "/etc/passwd", "[/dev/../etc/x]", "5", "[/dev/a b]", "[5]", "[/dev/disk/by-label/x]"]
)
def test_a_device_is_a_path_in_dev(tree: Path, value: str) -> None:
    """What cannot name a device is an error with its line."""
    with pytest.raises(SettingsError, match="line 1: drive_devices: must be a list"):
        load(tree, f"drive_devices: {value}\n")
