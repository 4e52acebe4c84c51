"""packages and repositories; disks, file systems, mounts, swap, growpart; the ends."""

from __future__ import annotations

import pytest
from support.user_data_plans import DEBIAN, action, complaints, plan_of, steps

from csagent.user_data.plan import BOOT

RED_HAT = DEBIAN._replace(family="redhat", distribution="rocky")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[hello, tree]", ("hello", "tree")),
        ("hello", ("hello",)),
        ("[[hello, 2.10-3]]", ("hello=2.10-3",)),
        ("[hello, hello]", ("hello",)),
        ("[{apt: [hello]}, tree]", ("hello", "tree")),
        ("[libc6-dev]", ("libc6-dev",)),
    ],
)
def test_names_of_packages(text: str, names: tuple) -> None:
    """Text, lists with a version, by package manager; the index is refreshed first, once."""
    plan = plan_of(f"packages: {text}\npackage_update: true\n")
    assert action(plan, "InstallPackages").names == names
    assert [type(step.action).__name__ for step in plan.steps if step.slot == "packages"] == [
        "RefreshIndex",
        "InstallPackages",
    ]
    assert complaints(plan) == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[1]", "error 2 packages: entry 1: must be the name of a package, and is a number or date"),
        ("[--option]", 'error 2 packages: entry 1: "--option" cannot be the name of a package'),
        ('["a\\e[2Jb"]', 'error 2 packages: entry 1: "a\x1b[2Jb" cannot be the name of a package'),
        ("[hello tree]", 'warning 2 packages: entry 1: "hello tree" is one name to the package manager'),
        ("{a: b}", "error 2 packages: must be a list of names, and is a mapping: nothing is installed"),
        ("[{snap: [x]}]", "warning 2 packages: the packages of snap are not installed: that is not this"),
        ("['', hello]", "warning 2 packages: entry 1: is empty: passed over"),
        ("[[a, b, c]]", "error 2 packages: entry 1: a list of a name and a version"),
    ],
)
def test_bad_packages(value: str, said: str) -> None:
    """Named with their line (field/user-data#U80)."""
    (told,) = complaints(plan_of(f"packages: {value}\n"))
    assert told.startswith(said)


def test_a_version_on_el() -> None:
    """dnf writes it with a dash."""
    assert action(plan_of("packages: [[a, '1']]\n", RED_HAT), "InstallPackages").names == ("a-1",)


def test_upgrade_and_reboot() -> None:
    """In their order, with the old spellings too."""
    for key in ("package", "apt"):
        plan = plan_of(f"{key}_upgrade: true\n{key}_reboot_if_required: true\nruncmd: ['true']\n")
        assert [type(step.action).__name__ for step in plan.steps if step.parts] == [
            "RefreshIndex",
            "UpgradePackages",
            "RebootIfRequired",
            "RunScript",
        ]


def test_disks() -> None:
    """The shape of Cluster API's disk offerings."""
    plan = plan_of(
        """\
        disk_setup:
          /dev/vdb: {table_type: gpt, layout: true, overwrite: false}
        fs_setup:
          - {device: /dev/vdb1, filesystem: ext4, label: data, partition: auto}
        mounts:
          - [LABEL=data, /data]
          - [vdc, none, swap, sw, '0', '0']
        """
    )
    assert complaints(plan) == []
    assert steps(plan) == [
        "early disk_setup: /dev/vdb: 1 partition (gpt), if it is empty",
        "early fs_setup: ext4 on /dev/vdb1, partition auto, label data",
        "early mounts: LABEL=data on /data, /dev/vdc on none",
    ]
    first, second = action(plan, "MountAll").mounts
    assert first[2:] == ("auto", "defaults,nofail", "0", "2")
    assert second[:4] == ("/dev/vdc", "none", "swap", "sw")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("disk_setup: [a]", "error 2 disk_setup: must be a mapping of devices, and is a list"),
        ("disk_setup: {ephemeral0: {layout: true}}", 'error 2 disk_setup: "ephemeral0" is a name of another'),
        ("disk_setup: {/dev/vdb: {layout: [0]}}", "error 2 disk_setup: /dev/vdb: each entry of layout is"),
        (
            "disk_setup: {/dev/vdb: {table_type: x, layout: true}}",
            "error 2 disk_setup: /dev/vdb: table_type must be mbr or gpt",
        ),
        ("fs_setup: [{device: /dev/vdb}]", "error 2 fs_setup: entry 1: needs a filesystem, such as ext4"),
        ("fs_setup: [{filesystem: ext4}]", "error 2 fs_setup: entry 1: needs a device"),
        ("fs_setup: [{device: 'a;b', filesystem: ext4}]", 'error 2 fs_setup: "a;b" is no device'),
        ("mounts: [/dev/vdb]", "error 2 mounts: entry 1: must be a list of a device, a directory and so on"),
        ("mounts: [[a, /b, c, d, e, f, g]]", "error 2 mounts: entry 1: has more than 6 fields"),
        ("mounts: [[/dev/vdb, '/a b']]", "error 2 mounts: entry 1: a field that is empty or has blanks"),
        ("swap: {size: much}", "error 2 swap: size must be auto or a size, such as 2G"),
        ("swap: {size: 1G, filename: a}", "error 2 swap: filename must be an absolute path without blanks"),
        ("power_state: {mode: sleep}", "error 2 power_state: mode must be one of"),
        ("power_state: reboot", "error 2 power_state: must be a mapping with a mode, and is text"),
        ("power_state: {mode: reboot, delay: soon}", "error 2 power_state: delay must be now, or a number"),
        ("phone_home: {url: ftp://a}", "error 2 phone_home: url must begin with https:// or http://"),
        ("phone_home: a", "error 2 phone_home: must be a mapping with a url"),
        ("phone_home: {url: 'http://a', tries: x}", "warning 2 phone_home: tries must be a number from 1"),
        ("final_message: $UPTIMES", 'warning 2 final_message: has an unknown variable "UPTIMES"'),
        ("apt: [a]", "error 2 apt: must be a mapping"),
        ("yum_repos: {a: {baseurl: 'http://a'}}", "warning 2 yum_repos: is for EL's package manager"),
        ("growpart: [a]", "error 2 growpart: must be a mapping"),
    ],
)
def test_complaints(text: str, said: str) -> None:
    """Each with its line."""
    found = complaints(plan_of(text + "\n"))
    assert len(found) == 1
    assert found[0].startswith(said)


def test_swap_sizes() -> None:
    """auto, and sizes with units."""
    assert action(plan_of("swap: {size: 1.5G}\n"), "MakeSwap").size == 3 << 29
    assert action(plan_of("swap: {size: auto, maxsize: 512M}\n"), "MakeSwap")[1:] == (0, 1 << 29)
    assert steps(plan_of("swap: {size: 0}\n")) == []


def test_the_root_grows_at_each_boot() -> None:
    """Its partition, then its file system."""
    plan = plan_of("growpart: {mode: auto}\nresize_rootfs: true\n")
    assert [type(step.action).__name__ for step in plan.steps if step.parts] == [
        "GrowPartition",
        "ResizeRoot",
    ]
    assert {step.often for step in plan.steps if step.parts} == {BOOT}
    assert steps(plan_of("growpart: {mode: 'off'}\nresize_rootfs: false\n")) == []


def test_a_message_that_is_a_list() -> None:
    """It is shown as it is, with a warning."""
    plan = plan_of("final_message: [a, b]\n")
    assert action(plan, "FinalMessage").text == "['a', 'b']"
    assert complaints(plan) == ["warning 2 final_message: must be text, and is a list: shown as it is"]


def test_the_ends_come_last_and_in_their_order() -> None:
    """The call, the message, the end of the machine."""
    plan = plan_of(
        "power_state: {mode: poweroff, delay: 5, condition: test -e /a}\nfinal_message: up $UPTIME\n"
        "phone_home: {url: 'https://u:EXAMPLE@example.com/x?token=marker', post: [instance_id]}\n"
        "runcmd: ['true']\n"
    )
    assert steps(plan) == [
        "final runcmd: 1 command, as one script",
        "final phone_home: tell example.com instance_id",
        "final final_message: a message on the console and in the log, at each boot",
        "final power_state: poweroff in 5 minutes, if its condition is met",
    ]
    assert "marker" not in repr(plan)
    assert steps(plan_of("power_state: {mode: poweroff, condition: false}\n")) == []


@pytest.mark.parametrize(
    "text",
    ["apt:\n  sources: {mine: {source: deb http://x ./}}\n", "apt_sources: [{source: deb http://x ./}]\n"],
)
def test_new_repositories_refresh_the_index(text: str) -> None:
    """Scripts install from them without doing it themselves, as they may with cloud-init."""
    names = [type(step.action).__name__ for step in plan_of(text).steps if step.parts]
    assert names == ["SourcesFile", "RefreshIndex"]


def test_yum_repositories() -> None:
    """One file each, as dnf reads them; without a URL it is none."""
    (told,) = complaints(plan_of("yum_repos: {a: {name: b}}\n", RED_HAT))
    assert told == "error 2 yum_repos: a: must be a mapping with a baseurl"
    plan = plan_of("yum_repos: {demo: {baseurl: 'http://a', enabled: true, gpgcheck: false}}\n", RED_HAT)
    (file,) = action(plan, "Configure").files
    assert file.path == "/etc/yum.repos.d/demo.repo"
    assert file.content.reveal().decode().splitlines() == [
        "[demo]",
        "name=demo",
        "baseurl=http://a",
        "enabled=1",
        "gpgcheck=0",
    ]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("package-update", 'warning 2 package-update: unknown key; did you mean "package_update"?'),
        ("run_cmd", 'warning 2 run_cmd: unknown key; did you mean "runcmd"?'),
        ("example_thing", "warning 2 example_thing: unknown key"),
        ("datasource_list", "warning 2 datasource_list: not for csagent: configures cloud-init itself"),
        ("snap", "warning 2 snap: not for csagent: is for Ubuntu"),
        ("ubuntu_advantage", "warning 2 ubuntu_advantage: not for csagent: is for Ubuntu"),
        ("coreos", "error 2 coreos: is for CoreOS"),
    ],
)
def test_keys_that_are_not_run(key: str, said: str) -> None:
    """Named, with the near miss; only what was written for another program is an error."""
    (told,) = complaints(plan_of(f"{key}: [a]\n"))
    assert told.startswith(said)


def test_more_unknown_keys_than_anybody_reads() -> None:
    """Those of a file that is no cloud-config, say: the first are told, and that there are more."""
    told = complaints(plan_of("".join(f"unknown_{number}: 1\n" for number in range(1500)) + "coreos: [a]\n"))
    assert len(told) == 1002 and told[1000].endswith("further warnings are not listed")
    assert "coreos" in told[-1]
