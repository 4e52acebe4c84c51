"""password, chpasswd, ssh_pwauth; ssh_authorized_keys, disable_root, ssh_keys."""

from __future__ import annotations

import pytest
from support.samples import make_key
from support.user_data_plans import DEBIAN, action, complaints, plan_of, steps

HASH = "$6$EXAMPLE$marker"
FIRST, SECOND = make_key(1), make_key(2)


def test_password_of_the_default_user() -> None:
    """To be changed at the first login, unless expire says otherwise."""
    plan = plan_of("password: EXAMPLE-marker\n")
    made = action(plan, "SetPassword")
    assert (made.name, made.value.reveal(), made.hashed, made.expire) == (
        "debian",
        b"EXAMPLE-marker",
        False,
        True,
    )
    assert "marker" not in repr(plan)
    assert not action(plan_of("password: x\nchpasswd: {expire: false}\n"), "SetPassword").expire
    assert action(plan_of(f"password: {HASH}\n"), "SetPassword").hashed


def test_password_without_a_default_user() -> None:
    """Nothing is done with it (field/user-data#U59)."""
    plan = plan_of("password: x\nusers: [eve]\n")
    (told,) = complaints(plan)
    assert told.startswith("warning 2 password: is for the default user")


@pytest.mark.parametrize(
    "value",
    [
        "{list: 'root:EXAMPLE-marker'}",
        "{list: ['root:EXAMPLE-marker']}",
        "{users: [{name: root, password: EXAMPLE-marker, type: text}]}",
    ],
)
def test_forms_of_chpasswd(value: str) -> None:
    """Lines of a text, a list, mappings."""
    made = action(plan_of(f"chpasswd: {value}\n"), "SetPassword")
    assert (made.name, made.value.reveal(), made.hashed, made.expire) == (
        "root",
        b"EXAMPLE-marker",
        False,
        True,
    )


def test_hashes_and_random_passwords() -> None:
    """A hash is known by its form; R and RANDOM make one."""
    plan = plan_of(
        f"chpasswd: {{list: ['a:{HASH}', 'b:R', 'c:RANDOM', 'd:$7$x'], users: [{{name: e, type: RANDOM}}]}}\n"
    )
    made = [step.action for step in plan.steps if step.key == "chpasswd"]
    assert [(one.name, one.hashed, one.value is None) for one in made] == [
        ("a", True, False),
        ("b", False, True),
        ("c", False, True),
        ("d", False, False),
        ("e", False, True),
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[a]", "error 2 chpasswd: must be a mapping, and is a list"),
        ("{list: [EXAMPLE-marker]}", "error 2 chpasswd: list, entry 1: must be written as user:password"),
        ("{list: {a: b}}", "error 2 chpasswd: list must be lines such as user:password, and is a mapping"),
        ("{users: [{name: a}]}", "error 2 chpasswd: users, entry 1: has no password"),
        (
            "{users: [{name: a, type: x}]}",
            "error 2 chpasswd: users, entry 1: type must be hash, text or RANDOM",
        ),
        ("{users: [a]}", "error 2 chpasswd: users, entry 1: must be a mapping with a name"),
        ("{expire: maybe}", "warning 2 chpasswd: expire must be true or false: taken for false"),
    ],
)
def test_bad_chpasswd(value: str, said: str) -> None:
    """Named with the line, never with the secret."""
    assert complaints(plan_of(f"chpasswd: {value}\n")) == [said]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("true", ["early ssh_pwauth: sshd takes passwords"]),
        ("'yes'", ["early ssh_pwauth: sshd takes passwords"]),
        ("no", ["early ssh_pwauth: sshd takes no passwords"]),
        ("unchanged", []),
        ("", []),
    ],
)
def test_ssh_pwauth(value: str, told: list) -> None:
    """Switches of YAML and text."""
    assert steps(plan_of(f"ssh_pwauth: {value}\n")) == told


def test_keys_reach_the_default_user_and_root() -> None:
    """Root's only say who to log in as, unless disable_root is false."""
    text = f"ssh_authorized_keys:\n  - {FIRST}\n  - {SECOND}\n"
    plan = plan_of(text)
    assert steps(plan) == [
        "early ssh_authorized_keys: 2 keys for debian",
        "early ssh_authorized_keys: 2 keys for root, which only say who to log in as",
    ]
    made = {step.action.name: step.action for step in plan.steps if step.key == "ssh_authorized_keys"}
    assert made["debian"].keys == (FIRST, SECOND)
    assert made["debian"].options == ""
    assert 'as the user \\"debian\\" rather than the user \\"root\\"' in made["root"].options
    made = {
        step.action.name: step.action
        for step in plan_of(f"{text}disable_root: false\n").steps
        if step.key == "ssh_authorized_keys"
    }
    assert made["root"].options == ""
    plan = plan_of(text, DEBIAN._replace(user="root"))
    assert steps(plan) == ["early ssh_authorized_keys: 2 keys for root"]


def test_one_text_is_refused() -> None:
    """cloud-init does nothing with it (field/user-data#U60)."""
    (told,) = complaints(plan_of(f"ssh_authorized_keys: {FIRST}\n"))
    assert told.startswith("error 2 ssh_authorized_keys: must be a list: cloud-init does nothing")


def test_lines_without_a_key_are_named() -> None:
    """The others are taken."""
    plan = plan_of(f"ssh_authorized_keys: [marker, {FIRST}]\n")
    assert complaints(plan) == ["warning 2 ssh_authorized_keys: entry 1 is not a public key: left out"]
    assert plan.outcome == "runs"


def test_without_a_default_user_keys_reach_nobody() -> None:
    """Only root, who may not log in with them (field/user-data#U59)."""
    (told,) = complaints(plan_of(f"ssh_authorized_keys: [{FIRST}]\nusers: [eve]\n"))
    assert "reach only root, which may not log in with them" in told


def test_host_keys_of_the_document() -> None:
    """Written as they are, and secret; ssh_deletekeys is left to csagent-host-keys (field/user-data#U63)."""
    plan = plan_of("ssh_keys: {ed25519_private: EXAMPLE-marker, ed25519_public: x, rsa_privat: y}\n")
    made = action(plan, "HostKey")
    assert (made.kind, made.private.reveal(), made.public.reveal()) == ("ed25519", b"EXAMPLE-marker", b"x")
    assert complaints(plan) == ['warning 2 ssh_keys: unknown key "rsa_privat"; did you mean "rsa_private"?']
    assert complaints(plan_of("ssh_deletekeys: false\n")) == []
    (told,) = complaints(plan_of("ssh_deletekeys: true\n"))
    assert "csagent-host-keys" in told
