"""users, user, system_info.default_user and groups."""

from __future__ import annotations

import pytest
from support.samples import make_key
from support.user_data_plans import DEBIAN, action, complaints, plan_of, steps

KEY = make_key(1)


def made(config: str) -> dict:
    """The accounts of a document, by name."""
    plan = plan_of(config)
    return {one.action.name: one.action for one in plan.steps if type(one.action).__name__ == "AddUser"}


def test_the_list_replaces_the_default_user() -> None:
    """Without an entry `default` there is none; with it that one is made last (field/user-data#U55)."""
    assert list(made("users: [{name: eve}]\n")) == ["eve"]
    assert list(made("users: [default, {name: eve}]\n")) == ["eve", "debian"]
    assert list(made("users: []\n")) == []


def test_without_the_key_the_account_of_the_setting_is_made() -> None:
    """As cloud images make theirs: bash, sudo without a password, locked."""
    user = made("package_update: true\n")["debian"]
    assert user.only_new
    assert user.texts["shell"] == "/bin/bash"
    assert user.sudo == ("ALL=(ALL) NOPASSWD:ALL",)
    assert "sudo" in user.groups
    plan = plan_of("package_update: true\n", DEBIAN._replace(create_user=False))
    assert not [one for one in plan.steps if one.key == "users"]


def test_debians_images_have_no_netdev_since_13() -> None:
    """The image's user has the groups of its release."""
    assert "netdev" in made("package_update: true\n")["debian"].groups
    plan = plan_of("package_update: true\n", DEBIAN._replace(version="13"))
    assert "netdev" not in action(plan, "AddUser").groups


def test_texts_lists_and_dashes() -> None:
    """groups with commas or a list, sudo and keys as text or list, dashes for underscores."""
    one = made(
        f"""\
        users:
          - name: eve
            groups: " sudo , adm "
            sudo: ALL=(ALL) ALL
            ssh-authorized-keys: [{KEY}]
            lock-passwd: false
            primary-group: staff
            uid: 2000
        """
    )["eve"]
    assert one.groups == ("sudo", "adm")
    assert one.sudo == ("ALL=(ALL) ALL",)
    assert one.keys == (KEY,)
    assert one.lock is False
    assert one.texts == {"primary_group": "staff", "uid": "2000"}
    other = made(f"users: [{{name: eve, groups: [a, b], sudo: [x, y], ssh_authorized_keys: {KEY}}}]\n")["eve"]
    assert (other.groups, other.sudo, other.keys, other.lock) == (("a", "b"), ("x", "y"), (KEY,), True)


@pytest.mark.parametrize("sudo", ["null", "false", "''"])
def test_no_sudo(sudo: str) -> None:
    """false and null are none."""
    assert made(f"users: [{{name: eve, sudo: {sudo}}}]\n")["eve"].sudo == ()


def test_names_with_commas() -> None:
    """`a, b` is two accounts; cloud-init sorts them with their blanks."""
    assert list(made("users: 'a, b'\n")) == ["b", "a"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[{name: 'a b'}]", 'error 2 users: "a b" cannot be the name of an account'),
        ("[{name: -x}]", 'error 2 users: "-x" cannot be the name of an account'),
        ("[[a]]", "error 2 users: entry 1: must be a name or a mapping, and is a list"),
        ("12", "error 2 users: must be a list, and is a number or date: nothing of it runs"),
        ("[{name: eve, sudo: {a: b}}]", "error 2 users: eve: sudo must be a rule"),
        ("[{name: eve, shel: /bin/sh}]", 'warning 2 users: eve: unknown key "shel"; did you mean "shell"?'),
        ("[{name: eve, ssh_import_id: [gh:eve]}]", "warning 2 users: eve: ssh_import_id fetches keys"),
        ("[{name: eve, system: true, ssh_authorized_keys: [" + KEY + "]}]", "error 2 users: eve: an account"),
        ("[{name: eve, ssh_authorized_keys: [x]}]", "warning 2 users: eve: ssh_authorized_keys: entry 1 is"),
    ],
)
def test_bad_entries(value: str, said: str) -> None:
    """Each is named; the account behind it is made all the same."""
    found = complaints(plan_of(f"users: {value}\n"))
    assert len(found) == (said != "")
    assert all(one.startswith(said) for one in found)
    if value.startswith("[") and said.startswith("error"):
        plan = plan_of(f"users: {value[:-1]}, mallory]\n")
        assert [one.action.name for one in plan.steps if one.key == "users"] == ["mallory"]


def test_passwords_stay_secret() -> None:
    """In no text and no repr."""
    plan = plan_of("users: [{name: eve, plain_text_passwd: EXAMPLE-marker, lock_passwd: false}]\n")
    assert action(plan, "AddUser").plain.reveal() == b"EXAMPLE-marker"
    assert "marker" not in repr(plan)
    assert steps(plan) == ["early users: account eve, a password"]


def test_user_names_the_default_user() -> None:
    """The old key: as text, and as a mapping that says more."""
    assert list(made("user: admin\n")) == ["admin"]
    assert made("user: {name: admin, shell: /bin/sh}\n")["admin"].texts["shell"] == "/bin/sh"
    assert made("user: admin\n")["admin"].texts["gecos"] == "Debian"  # the image's, as all that is not said


def test_default_user_of_system_info() -> None:
    """A name of the document's own for the default user."""
    assert list(made("system_info: {default_user: {name: admin}}\nusers: [default]\n")) == ["admin"]


def test_users_of_a_text_and_of_a_mapping_are_made_by_their_names() -> None:
    """As cloud-init sorts both, and so gives the numbers."""
    assert list(made("users: zoe,abe\n")) == ["abe", "zoe"]
    assert list(made("users: {zoe: true, abe: {shell: /bin/sh}}\n")) == ["abe", "zoe"]


def test_groups_of_a_mapping_are_made_by_their_names() -> None:
    """As cloud-init sorts the keys of mappings, and so gives the numbers."""
    assert [step.action.name for step in plan_of("groups: {b: [], c: [], a: []}\n").steps if step.parts] == [
        "a",
        "b",
        "c",
    ]


def test_groups() -> None:
    """Names, and names with members; made before the users."""
    plan = plan_of("groups: [a, {b: [root, games]}]\nusers: [eve]\n")
    assert steps(plan) == [
        "early groups: group a",
        "early groups: group b, with root, games",
        "early users: account eve, locked for passwords",
    ]
    assert steps(plan_of("groups: 'a, b'\n")) == ["early groups: group a", "early groups: group b"]
    (told,) = complaints(plan_of("groups: [{b: [eve]}]\nusers: [eve]\n"))
    assert "groups are made before the users" in told


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[1]", "error 2 groups: entry 1: must be a name or a mapping, and is a number or date"),
        ("['a b']", 'error 2 groups: "a b" cannot be the name of a group'),
        ("true", "error 2 groups: must be a list, and is a boolean"),
    ],
)
def test_bad_groups(value: str, said: str) -> None:
    """Named with their line."""
    assert complaints(plan_of(f"groups: {value}\n")) == [said]
