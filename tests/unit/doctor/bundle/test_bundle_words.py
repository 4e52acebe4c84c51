"""Which words of a text leave the machine: csagent's own and the given names; every other is replaced."""

import os
import time

import pytest

from csagent.doctor.bundle.redaction import Words

SECRETS = (
    "hunter2",
    "EXAMPLE-secret",
    "Tr0ub4dor&3",
    "correct-horse-battery-staple",
    "Pa$$w0rd!",
    "48151623",
    "482910",
    "12345:67890",
    "4111-1111-1111-1111",
    "ab8RFkAq1bXyQ",
    "$6$EXAMPLEsalt$EXAMPLEhash",
    "5f4dcc3b5aa765d61d8327deb882cf99",
    "9f1c2d3e-0b1a-4c5d-8e9f-001122334455",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl",
    "dGhpcyBpcyBhIHNlY3JldA==",
    "/AbC+dEf/GhI=",
    "ssh-ed25519-AAAAC3NzaC1lZDI1NTE5AAAA",
    "p@ssw0rd",
    "geheim\N{LATIN SMALL LETTER U WITH DIAERESIS}",
)


@pytest.fixture(scope="module")
def words():
    """csagent's own, and two names."""
    return Words(["alice", "web01"])


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "token {}",
        "passwd {}",
        "my token is {}",
        "pw {}",
        "Exception: {}",
        "ValueError: no such thing: {}",
        "password={}",
        "secret: {}.",
        '{{"password": "{}"}}',
        "curl -H 'Authorization: Bearer {}'",
        "http://alice:{}@10.1.1.1/x",
        "--password={}",
        "the password of root is ({})",
    ],
)
def test_a_secret_in_a_sentence_is_replaced(words, text, secret):
    """Whatever stands beside it, and whatever it looks like."""
    kept = words.kept(text.format(secret))
    assert secret not in kept and "redacted" in kept
    assert words.kept(kept) == kept


@pytest.mark.parametrize(
    "text",
    [
        "password: set, and the server was told",
        "CloudStack says web01 (router 10.1.1.1)",
        "add alice to AllowUsers (/etc/ssh/sshd_config.d/50-cloud.conf, line 2), then: systemctl "
        "try-reload-or-restart ssh",
        "router 10.1.1.1:80 (DHCP server of eth0): ok after 0.004 s: 10 metadata keys",
        "2026-11-21 04:04:18 UTC by csagent 0.1.0, this is 0.1.0",
        "chpasswd failed with 1: chpasswd: (user alice) pam_chauthtok() failed, error: "
        "Authentication token manipulation error",
        "/etc/hostname: Read-only file system; No space left on device",
        "csagent.service: Main process exited, code=exited, status=1/FAILURE",
        "csagent.service: Scheduled restart job, restart counter is at 5.",
        "curl -si -H 'DomU_Request: send_my_password' http://10.1.1.1:8080/ | head -n1",
        "AuthorizedKeysFile /etc/ssh/keys/%u (sshd -T)",
        "ModuleNotFoundError: No module named 'yaml'",
        "root has no password (*) || /root is writable by its group (0770)",
    ],
)
def test_what_csagent_says_is_kept(words, text):
    """Its own sentences, of systemd, PAM and the C library, with addresses, times, numbers and paths."""
    assert words.kept(text) == text


def test_a_document_is_kept_text_by_text(words):
    """Numbers, truth and nothing stay; texts at any depth lose what is not known."""
    document = {"a": ["alice", "EXAMPLE-secret", 7, None], "b": {"c": True, "d": "password EXAMPLE-secret"}}
    assert words.all_kept(document) == {
        "a": ["alice", "redacted", 7, None],
        "b": {"c": True, "d": "password redacted"},
    }


def test_without_source_files_little_is_known(monkeypatch):
    """Where only byte code is installed the archive says less, never more."""
    monkeypatch.setattr(os.path, "abspath", lambda _path: "/nonexistent/__init__.py")
    assert Words().kept("PermitRootLogin no (sshd -T)") == "redacted redacted (redacted -redacted)"
    assert Words().kept("10.1.1.1 failed: Permission denied") == "10.1.1.1 failed: Permission denied"


@pytest.mark.parametrize(
    "piece", ["password", "a_b.c-", "://x:", "$6$", "x ", "'\"", "/etc/", "9.", "((", "a:"]
)
def test_a_text_without_end_costs_no_more_than_its_length(words, piece):
    """Half a megabyte in one line: no more than seconds of the processor."""
    started = time.process_time()
    words.kept(piece * (512 * 1024 // len(piece)))
    assert time.process_time() - started < 5.0
