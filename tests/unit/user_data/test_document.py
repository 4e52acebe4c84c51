"""A whole document: its kind, its parts, templates, merging, YAML."""

from __future__ import annotations

import base64
import gzip

import pytest
from support.user_data_plans import DEBIAN, METADATA, complaints, plan_of, steps

from csagent.user_data.document import make_plan
from csagent.user_data.plan import Plan

CONFIG = b"#cloud-config\nruncmd:\n  - echo a\n"
SCRIPT = b"#!/bin/sh\necho a\n"
JAVAMAIL = (
    b'Content-Type: multipart/mixed; \r\n\tboundary="----=_Part_0_1.2"\r\nMIME-Version: 1.0\r\n\r\n'
    b"------=_Part_0_1.2\r\nContent-Type: text/x-shellscript; charset=us-ascii\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(SCRIPT).replace(b"\n", b"\r\n")
    + b"\r\n"
    b"------=_Part_0_1.2\r\nContent-Type: text/cloud-config\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(CONFIG).replace(b"\n", b"\r\n")
)


def plan(document: bytes) -> Plan:
    return make_plan(document, DEBIAN)


def message(*parts: str) -> bytes:
    """A MIME message of such parts; each has its own headers."""
    head = 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n'
    return (head + "".join(f"--b\n{part}\n" for part in parts) + "--b--\n").encode()


@pytest.mark.parametrize(
    ("document", "outcome", "said"),
    [
        (b"\xef\xbb\xbf#cloud-config\n", "refused", "a byte order mark stands before its header"),
        (b"# cloud-config\nruncmd: []\n", "refused", '"#cloud-config" is written without a blank'),
        (b"##template: jinja\n#cloud-config\n", "refused", 'begins with exactly "## template: jinja"'),
        (b"## template:jinja\n#cloud-config\n", "refused", 'begins with exactly "## template: jinja"'),
        (b"\n## template: jinja\n#cloud-config\n", "refused", "must be the first line"),
        (b"## template: jinja2\n#cloud-config\n", "refused", 'written as "## template: jinja"'),
        (b"\n#!/bin/sh\n", "runs", "it cannot run: its first line must be the one with #!"),
        (base64.b64encode(CONFIG), "refused", "base64 of a document"),
        (base64.b64encode(gzip.compress(CONFIG)), "refused", "base64 of gzip"),
        (gzip.compress(gzip.compress(CONFIG)), "refused", "gzip twice"),
        (gzip.compress(CONFIG)[:20], "refused", "it is cut short"),
        (b"Content-Type: text/cloud-config\n\nruncmd: []\n", "refused", "without MIME-Version"),
        (b"role=web\nsize=3\n", "ignored", "no header that says what it is"),
        (b"#cloud-config\n- a\n", "refused", "it must be keys with their values, and is a list"),
        (b"#cloud-config\na\n", "refused", "it must be keys with their values, and is one value"),
        (b"#cloud-config\n", "ignored", "it is empty"),
        (b"#ps1_sysnative\n", "refused", "PowerShell"),
        (b"<powershell>\n", "refused", "PowerShell"),
        (b'{"ignition": {"version": "3.0.0"}}', "refused", "Ignition"),
        (b"#part-handler\n", "refused", "a part-handler"),
        (b"#cloud-config-archive\n- a\n", "refused", "a cloud-config-archive"),
        (b"#cloud-config-jsonp\n[]\n", "refused", "a JSON patch"),
        (b"#include\nfile:///etc/passwd\n", "refused", "only https:// and http:// are fetched"),
        (b"#cloud-config\na: b\0\n", "refused", "a character that YAML does not allow"),
        (b"#cloud-config\na: \xff\n", "refused", "it is not UTF-8: a byte 0xff"),
    ],
)
def test_what_is_not_run(document: bytes, outcome: str, said: str) -> None:
    """Each near miss of field/user-data#3 is named; what programs read themselves is left alone."""
    (part,) = plan(document).parts
    assert part.outcome == outcome
    assert said in part.problems[0].text
    wanted = "ignored" if outcome == "ignored" else "nothing"
    assert plan(document).outcome == wanted


@pytest.mark.parametrize(
    "document",
    [
        CONFIG,
        b"\n \n" + CONFIG,
        b"#Cloud-Config: ours\n---\nruncmd: [echo a]\n",
        gzip.compress(CONFIG),
        b"## template: jinja\n" + CONFIG,
        message("Content-Type: text/plain\n\n" + CONFIG.decode()),
        message("Content-Type: text/cloud-config\n\nruncmd: [echo a]"),
    ],
)
def test_what_runs(document: bytes) -> None:
    """The same plan, however it is packed (field/user-data#U5, #U12)."""
    assert plan(document).outcome == "runs"
    assert steps(plan(document)) == ["final runcmd: 1 command, as one script"]


def test_a_message_of_the_server() -> None:
    """JavaMail's form, its last boundary missing (field/user-data#U10, #U11)."""
    found = plan(JAVAMAIL)
    assert [(part.name, part.kind, part.outcome) for part in found.parts] == [
        ("part-001", "script", "runs"),
        ("part-002", "cloud-config", "runs"),
    ]
    assert steps(found) == [
        "final script: run part-001 (17 bytes, /bin/sh)",
        "final runcmd: 1 command, as one script",
    ]


def test_scripts_run_by_name() -> None:
    """Digits first, then part-NNN, then runcmd, then what is behind it (field/user-data#U29)."""
    shell = (
        'Content-Type: text/x-shellscript; name="{0}"\nContent-Disposition: x; filename="{0}"\n\n#!/bin/sh'
    )
    found = plan(
        message(
            shell.format("zlast.sh"),
            "Content-Type: text/cloud-config\n\nruncmd: [a]",
            "Content-Type: text/plain\n\n#!/bin/sh",
            shell.format("20-b"),
            shell.format("10-a"),
        )
    )
    assert [step.action.name for step in found.steps if step.parts] == [
        "10-a",
        "20-b",
        "part-003",
        "runcmd",
        "zlast.sh",
    ]


def test_two_parts_of_one_name() -> None:
    """The later one runs, the other is refused and says so (field/user-data#U15)."""
    shell = 'Content-Type: text/x-shellscript\nContent-Disposition: x; filename="a.sh"\n\n#!/bin/sh\n# {}'
    found = plan(message(shell.format(1), shell.format(2)))
    assert [part.outcome for part in found.parts] == ["refused", "runs"]
    assert 'a later part has the name "a.sh" too' in found.parts[0].problems[0].text
    assert len([step for step in found.steps if step.parts]) == 1


def test_scripts_by_frequency() -> None:
    """Once a machine, once an instance, at each boot; before the user's own."""
    types = ("per-boot", "per-instance", "per-once")
    found = plan(
        message(
            *(f"Content-Type: text/x-shellscript-{one}\n\n#!/bin/sh" for one in types),
            "Content-Type: text/x-shellscript\n\n#!/bin/sh",
        )
    )
    assert [(step.action.name, step.often) for step in found.steps if step.parts] == [
        ("part-003", "machine"),
        ("part-001", "boot"),
        ("part-002", "instance"),
        ("part-004", "instance"),
    ]


def test_types_that_mean_nothing() -> None:
    """Ignored with a warning, or refused where it looks like something that runs (field/user-data#U13)."""
    found = plan(
        message(
            "Content-Type: image/png\n\nx", "Content-Type: application/octet-stream\n\n#cloud-config\na: b"
        )
    )
    assert [part.outcome for part in found.parts] == ["ignored", "refused"]
    assert "looks like a cloud-config" in found.parts[1].problems[0].text


def test_a_script_without_its_first_line() -> None:
    """Named before it fails; the others run (field/user-data#U14)."""
    found = plan(
        message("Content-Type: text/x-shellscript\n\necho a", "Content-Type: text/plain\n\n#!/bin/sh")
    )
    assert complaints(found) == [
        "error 1 -: it cannot run: its first line must begin with #! and name what runs it, such as #!/bin/sh"
    ]
    assert found.outcome == "partly"


def test_templates_have_the_metadata() -> None:
    """CloudStack's keys, with dashes and with underscores, and cloud-init's names for them."""
    for name, value in (
        ("ds.meta_data.local_hostname", "vm01"),
        ("ds.meta_data['service-offering']", "Small"),
        ("local_hostname", "vm01"),
        ("v1.instance_id", METADATA["instance-id"]),
        ("v1.distro", "debian"),
    ):
        found = plan(f"## template: jinja\n#cloud-config\nhostname: x\nfqdn: {{{{ {name} }}}}\n".encode())
        texts = [step.text for step in found.steps if step.key in ("hostname", "fqdn")]
        assert found.parts[0].template
        assert "hostname" in [step.key for step in found.steps], texts
        rendered = plan(f"## template: jinja\n#cloud-config\nfqdn: {{{{ {name} }}}}\n".encode())
        assert any(value in step.text for step in rendered.steps), name


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        ("a: 1\nb: {{ nothing }}\n", 4, 'the metadata has no "nothing"'),
        ("a: 1\n{% if x %}\n", 4, "jinja2: "),
        ("runcmd:\n  - docker ps --format '{{.Names}}'\n", 4, "jinja2: "),
        ("{% for a in [1] %}\nb: c\n{% endfor %}\n  x\n- y: [\n", 7, "expected <block end>"),
    ],
)
def test_a_template_that_cannot_be_rendered(body: str, line: int, said: str) -> None:
    """Its part is refused, with the line of the template (field/user-data#D5, #U82)."""
    (part,) = plan(f"## template: jinja\n#cloud-config\n{body}".encode()).parts
    assert part.outcome == "refused"
    assert part.problems[0].line == line
    assert said in part.problems[0].text


def test_a_typed_part_is_rendered() -> None:
    """cloud-init leaves its braces as they are (field/user-data#U22, #D6)."""
    found = plan(
        message("Content-Type: text/cloud-config\n\n## template: jinja\n#cloud-config\nfqdn: {{ v1.distro }}")
    )
    assert any("called debian" in step.text for step in found.steps)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: b\n\tc: d\n", 3, "a tab where YAML wants blanks"),
        ("a: b\n---\nc: d\n", 3, "a second document begins (---)"),
        ("a: [b\n", 3, ""),
        ("a: &x [*x]\n", 2, ""),
        ("a: !!python/object:os.system {}\n", 2, "a tag without a meaning"),
        ("a: !!python/unicode []\n", 2, "a text that is a list or a mapping"),
        ("a: 2001-99-99\n", 2, "a value that cannot be"),
        ("a: " + "[" * 70 + "]" * 70 + "\n", 2, "nested deeper than 64 levels"),
        ("? [a]\n: b\n", 2, "a key that is a list or a mapping"),
    ],
)
def test_yaml_that_cannot_be_read(text: str, line: int, said: str) -> None:
    """The part is refused, with the line (field/user-data#U70, #U71)."""
    (part,) = plan_of(text).parts
    assert part.outcome == "refused"
    assert (part.problems[0].line, said in part.problems[0].text) == (line, True)


def test_text_of_python_2() -> None:
    """The tag that its programs write, which cloud-init reads."""
    found = plan_of("hostname: !!python/unicode web\n")
    assert "early hostname: the machine is called web" in steps(found)


def test_what_yaml_offers_is_used() -> None:
    """Anchors, aliases, merge keys; YAML 1.1's switches (field/user-data#U72)."""
    found = plan_of(
        "x: &base {owner: a, permissions: '0600'}\n"
        "write_files:\n  - {<<: *base, path: /a}\n  - {<<: *base, path: /b, owner: b}\nssh_pwauth: yes\n"
    )
    assert [one for one in steps(found) if "write_files" in one] == [
        "early write_files: /a (0 bytes, 0600, a)",
        "early write_files: /b (0 bytes, 0600, b)",
    ]
    assert "early ssh_pwauth: sshd takes passwords" in steps(found)


def test_a_key_that_stands_twice() -> None:
    """The later one counts, and the lost one is named with its line (field/user-data#U20, #U69)."""
    found = plan_of("runcmd: [a]\npackages: [hello]\nruncmd: [b, c]\n")
    assert complaints(found) == [
        "warning 4 runcmd: stands twice: the one in line 2 is lost, this later one counts"
    ]
    assert "final runcmd: 2 commands, as one script" in steps(found)


@pytest.mark.parametrize(
    ("how", "commands"),
    [
        ("", ["b"]),
        ("merge_how: list(append)+dict(recurse_array)+str()\n", ["a", "b"]),
        ("merge_type: 'list(prepend)+dict(recurse_array)+str()'\n", ["b", "a"]),
        (
            "merge_how: [{name: list, settings: [append]}, {name: dict, settings: [recurse_array]}]\n",
            ["a", "b"],
        ),
        ("merge_how: dict(no_replace)\n", ["a"]),
    ],
)
def test_merging(how: str, commands: list) -> None:
    """As cloud-init merges parts; what is lost by default is named (field/user-data#U73)."""
    part = "Content-Type: text/cloud-config\n\n{}"
    found = plan(message(part.format("runcmd: [a]\n"), part.format(f"{how}runcmd: [b]\n")))
    (script,) = [step.action for step in found.steps if step.key == "runcmd"]
    assert script.content.reveal().decode().split("\n")[1:-1] == commands
    assert ("which is lost; a merge type would join them" in str(complaints(found))) == (how == "")


def test_merging_that_is_not_understood() -> None:
    """Refuses its part alone."""
    part = "Content-Type: text/cloud-config\n\n{}"
    found = plan(message(part.format("runcmd: [a]\n"), part.format("merge_how: list(a\nruncmd: [b]\n")))
    assert [one.outcome for one in found.parts] == ["runs", "refused"]
    assert steps(found) == ["final runcmd: 1 command, as one script"]


def test_line_ends_of_windows() -> None:
    """A script is converted if its first line ends so; YAML does not mind (field/user-data#U8)."""
    (step,) = [one for one in plan(b"#!/bin/sh\r\necho a\r\n").steps if one.parts]
    assert step.action.content.reveal() == b"#!/bin/sh\necho a\n"
    (step,) = [one for one in plan(b"#!/bin/sh\necho a\r\n").steps if one.parts]
    assert step.action.content.reveal() == b"#!/bin/sh\necho a\r\n"
    assert plan(CONFIG.replace(b"\n", b"\r\n")).outcome == "runs"
