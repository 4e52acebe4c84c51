"""hostname, fqdn, manage_etc_hosts; timezone, locale, keyboard, certificates, resolv_conf, ntp."""

from __future__ import annotations

import pytest
from support.user_data_plans import DEBIAN, action, complaints, plan_of, steps

from csagent.user_data.plan import BOOT

PEM = "-----BEGIN CERTIFICATE-----"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hostname: web", "web"),
        ("hostname: web.example.com", "web"),
        ("fqdn: web.example.com", "web"),
        ("fqdn: web.example.com\nhostname: other", "other"),
        ("fqdn: web.example.com.", "web"),
        ("fqdn: web.example.com\nprefer_fqdn_over_hostname: true", "web.example.com"),
    ],
)
def test_which_name(text: str, name: str) -> None:
    """The hostname, else the first label of the fqdn, unless the whole is preferred."""
    assert action(plan_of(text + "\n"), "SetHostname").name == name


def test_preserve_hostname() -> None:
    """The name is left alone."""
    assert steps(plan_of("hostname: web\npreserve_hostname: true\n")) == []
    plan = plan_of("hostname: web\npreserve_hostname: true\n", DEBIAN._replace(names_machine=True))
    assert action(plan, "SetHostname").name == "vm01"


def test_a_name_of_the_metadatas_that_is_too_long() -> None:
    """It is nobody's key, and is not given."""
    plan = plan_of("package_update: true\n", DEBIAN._replace(names_machine=True, hostname="a" * 70))
    assert [step for step in plan.steps if step.slot == "hostname"] == []


@pytest.mark.parametrize("value", ["123", "'a b'", "[a]", "'-'", "'a/b'"])
def test_bad_names(value: str) -> None:
    """Refused with their line; a number crashes cloud-init (field/user-data#U77)."""
    plan = plan_of(f"hostname: {value}\nbootcmd: [a]\n")
    (told,) = complaints(plan)
    assert told.startswith("error 2 hostname: ")
    assert [one for one in steps(plan) if "hostname" in one] == []


def test_a_bad_name_leaves_the_metadatas() -> None:
    """Where the document is run by hand, and nobody else gives the machine its name."""
    plan = plan_of("hostname: 123\n", DEBIAN._replace(names_machine=True))
    assert action(plan, "SetHostname").name == "vm01"


def test_an_underscore_is_written_and_named() -> None:
    """cloud-init writes it too."""
    plan = plan_of("hostname: my_host\n")
    assert action(plan, "SetHostname").name == "my_host"
    assert complaints(plan) == [
        "warning 2 hostname: has a _, which a name in DNS cannot have: written all the same"
    ]


def test_hosts() -> None:
    """All of the file, or our line, at each boot."""
    plan = plan_of("fqdn: web.example.com\nmanage_etc_hosts: true\n")
    (step,) = [one for one in plan.steps if one.slot == "hosts"]
    assert step.often == BOOT
    assert step.text == "/etc/hosts, all of it, at each boot: web.example.com"
    plan = plan_of("manage_etc_hosts: localhost\n")
    assert action(plan, "WriteHosts").whole is False
    assert steps(plan_of("manage_etc_hosts: false\n")) == []


@pytest.mark.parametrize(
    ("text", "told", "said"),
    [
        ("timezone: Europe/Zurich", ["early timezone: time zone Europe/Zurich"], []),
        (
            "timezone: ../../etc/passwd",
            [],
            ["error 2 timezone: must be the name of a zone, such as Europe/Zurich"],
        ),
        ("timezone: [a]", [], ["error 2 timezone: must be text"]),
        ("locale: de_CH.UTF-8", ["early locale: locale de_CH.UTF-8"], []),
        ("locale: 'a b'", [], ["error 2 locale: must be the name of a locale, such as de_CH.UTF-8"]),
        ("keyboard: {layout: ch}", ["early keyboard: keyboard ch"], []),
        ("keyboard: {model: pc104}", [], ["error 2 keyboard: needs a layout, such as de"]),
        (
            "keyboard: {layout: 'a\"b'}",
            [],
            ["error 2 keyboard: layout has characters that it cannot have"],
        ),
        ("ca_certs: {trusted: ['" + PEM + "']}", ["early ca_certs: 1 certificate of authorities"], []),
        ("ca-certs: {trusted: ['" + PEM + "']}", ["early ca-certs: 1 certificate of authorities"], []),
        ("ca_certs: {trusted: [x]}", [], ["error 2 ca_certs: trusted, entry 1: is no certificate"]),
        ("resolv_conf: {nameservers: [192.0.2.1]}", [], ["warning 2 resolv_conf: has no effect without"]),
        ("ntp: {servers: [time.example.com]}", ["final ntp: time from time.example.com"], []),
        ("ntp: {enabled: false}", [], []),
        ("ntp: {servers: ['a b']}", [], ["error 2 ntp: servers: an entry that is no host"]),
        ("ntp: {ntp_client: x}", [], ["error 2 ntp: ntp_client must be auto, "]),
        ("ntp: {config: {}}", [], ["error 2 ntp: config (a client and template of one's own) is not known"]),
        ("ntp: [a]", [], ["error 2 ntp: must be a mapping, and is a list"]),
    ],
)
def test_system_files(text: str, told: list, said: list) -> None:
    """What is done, or the complaint with its line."""
    plan = plan_of(text + "\n")
    assert steps(plan) == told
    found = complaints(plan)
    assert len(found) == len(said)
    assert all(one.startswith(start) for one, start in zip(found, said))


def test_resolv_conf() -> None:
    """Lines of resolv.conf(5)."""
    plan = plan_of(
        "manage_resolv_conf: true\nresolv_conf: {nameservers: [192.0.2.1, 192.0.2.2],"
        " searchdomains: [a.example, b.example], options: {rotate: true, timeout: 1}}\n",
        DEBIAN._replace(family="redhat", distribution="rocky"),
    )
    (file,) = action(plan, "Configure").files
    assert file.path == "/etc/resolv.conf"
    assert file.content.reveal().decode().splitlines() == [
        "nameserver 192.0.2.1",
        "nameserver 192.0.2.2",
        "search a.example b.example",
        "options rotate timeout:1",
    ]


def test_resolv_conf_on_debian() -> None:
    """Nothing is done, as with Debian's cloud-init, and said."""
    plan = plan_of("manage_resolv_conf: true\nresolv_conf: {nameservers: [192.0.2.1]}\n")
    assert steps(plan) == []
    (told,) = complaints(plan)
    assert told.startswith("warning 3 resolv_conf: is for EL")


def test_certificates_go_where_the_distribution_keeps_them() -> None:
    """And its own tool is run."""
    text = f"ca_certs: {{trusted: ['{PEM}'], remove_defaults: true}}\n"
    made = action(plan_of(text), "Configure")
    assert made.files[0].path == "/usr/local/share/ca-certificates/cloud-init-ca-cert-1.crt"
    assert [words[0] for words in made.commands] == ["sed", "update-ca-certificates"]
    made = action(plan_of(text, DEBIAN._replace(family="redhat")), "Configure")
    assert [words[0] for words in made.commands] == ["update-ca-trust"]


def test_ntp_has_the_distributions_pool() -> None:
    """Where the document names none."""
    assert action(plan_of("ntp:\n"), "ConfigureNtp").pools[0] == "0.debian.pool.ntp.org"
