"""#include, #include-once and phone_home against a web server in the same network namespace.

A run of csagent in an overlay of a Debian tree, whose only network is its own loopback.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from support.requirements import require
from support.user_data_tree import CSAGENT, METADATA, SETTINGS, TOOLS, Scratch, tree

pytestmark = [pytest.mark.root, pytest.mark.netns]

# Notes each request in /var/tmp/requests. /flaky gives its script at the second try.
SERVER = r"""
import gzip, http.server, os, threading

def script(word):
    return f"#!/bin/sh\necho {word} >>/var/tmp/order\n".encode()

PAGES = {
    "/script": script("script"),
    "/config": b"#cloud-config\nruncmd: [echo config >>/var/tmp/order]\n",
    "/packed": gzip.compress(script("packed")),
    "/list": b"#include\nhttp://127.0.0.1/script\nhttp://127.0.0.1/config\n",
    "/deep": b"#include\nhttp://127.0.0.1/list\n",
    "/self": b"#include\nhttp://127.0.0.1/self\n",
    "/large": b"#" * (2 << 20),
    "/once": script("once"),
    "/flaky": script("flaky"),
}
SEEN = []

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def note(self, text):
        SEEN.append(self.path)
        with open("/var/tmp/requests", "a") as stream:
            stream.write(text + "\n")

    def answer(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.note(f"GET {self.path}")
        if self.path == "/redirect":
            self.answer(302, Location="/script")
        elif self.path == "/round":
            self.answer(302, Location="/round")
        elif self.path == "/elsewhere":
            self.answer(302, Location="file:///etc/shadow")
        elif self.path == "/busy" or (self.path == "/flaky" and SEEN.count(self.path) == 1):
            self.answer(503)
        elif self.path == "/cut":  # a server that is stopped in the middle of its answer
            self.send_response(200)
            self.send_header("Content-Length", "4096")
            self.end_headers()
            self.wfile.write(script("cut"))
            self.close_connection = True
        elif self.path in PAGES:
            self.answer(200, PAGES[self.path])
        else:
            self.answer(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.note(f"POST {self.path} {body}")
        self.answer(500 if self.path == "/fails" or SEEN.count(self.path) == 1 else 200)

server = http.server.ThreadingHTTPServer(("127.0.0.1", 80), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.mkfifo("/run/ready")
open("/run/ready", "w").close()
threading.Event().wait()
"""

RUN = """
mkdir -p /etc/csagent
cp /run/in/csagent.yaml /etc/csagent/csagent.yaml
python3 /run/in/server.py >/run/server 2>&1 &
while [ ! -p /run/ready ]; do sleep 0.1; done
cat /run/ready
for number in $RUNS; do
    csagent user-data run --document /run/in/user-data --metadata /run/in/metadata.yaml --json \
        >/run/status.json 2>/run/stderr
    code=$?
done
kill %1
exit $code
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    """An overlay of a Debian 12 tree."""
    require(TOOLS, "runs documents in a Debian tree")
    made = Scratch(tree(), tmp_path)
    yield made
    made.close()


def run(scratch: Scratch, document: str, times: int = 1) -> Dict[str, Any]:
    """Run a document beside the server; csagent's own account of the last time."""
    numbers = " ".join(str(number) for number in range(times))
    files = {
        "user-data": document.encode(),
        "metadata.yaml": METADATA.encode(),
        "csagent.yaml": SETTINGS.encode(),
        "server.py": SERVER.encode(),
    }
    scratch.run(f'{CSAGENT}\nset -m\nRUNS="{numbers}"\n{RUN}', files)
    assert "Traceback" not in scratch.told("stderr")
    report = json.loads(scratch.told("status.json"))
    assert isinstance(report, dict)
    return report


def order(scratch: Scratch) -> List[str]:
    """What the scripts have said, in their order."""
    return scratch.text("/var/tmp/order").split()


def requests(scratch: Scratch) -> List[str]:
    """What the server was asked for."""
    return scratch.text("/var/tmp/requests").splitlines()


def test_includes_of_every_kind(scratch: Scratch) -> None:
    """A script, a cloud-config, what is packed, a redirect, and a server that is busy at first."""
    names = ("script", "config", "packed", "redirect", "flaky")
    report = run(scratch, "#include\n" + "".join(f"http://127.0.0.1/{name}\n" for name in names))
    assert report["state"] == "done"
    assert sorted(order(scratch)) == sorted(["script", "packed", "script", "flaky", "config"])


def test_a_url_that_fails_costs_its_part_only(scratch: Scratch) -> None:
    """Missing, busy for good, in a ring, to a file, too large, cut short: each is named, the rest runs."""
    names = ("missing", "busy", "round", "elsewhere", "large", "cut", "script")
    report = run(scratch, "#include\n" + "".join(f"http://127.0.0.1/{name}\n" for name in names))
    assert order(scratch) == ["script"]
    said = [part["problems"][0]["text"] for part in report["parts"] if part["outcome"] == "refused"]
    assert [one.partition(": ")[2] for one in said] == [
        "HTTP 404",
        "HTTP 503",
        "more than 5 redirects",
        "a redirect to something else than HTTP",
        "larger than 1 MiB",
        "the answer was cut short",
    ]
    assert [one["outcome"] for one in report["parts"]][-1] == "done"


def test_an_include_of_itself_and_of_includes(scratch: Scratch) -> None:
    """Two levels are followed, and not a third."""
    urls = "".join(f"http://127.0.0.1/{name}\n" for name in ("self", "list", "deep"))
    report = run(scratch, f"#include\n{urls}")
    assert sorted(order(scratch)) == ["config", "script"]
    assert requests(scratch).count("GET /self") == 1
    refused = [part["problems"][0]["text"] for part in report["parts"] if part["outcome"] == "refused"]
    third = "an include inside an include inside an include is not followed"
    assert refused == [f"{third} (http://127.0.0.1/{name})" for name in ("self", "script", "config")]


def test_once_is_fetched_once(scratch: Scratch) -> None:
    """`#include-once` for the instance, `#include` each time; neither runs its script twice."""
    document = "#include-once\nhttp://127.0.0.1/once\n#include\nhttp://127.0.0.1/script\n"
    run(scratch, document, times=2)
    assert requests(scratch).count("GET /once") == 1
    assert requests(scratch).count("GET /script") == 2
    assert sorted(order(scratch)) == ["once", "script"]


def test_phone_home(scratch: Scratch) -> None:
    """The form has what it shall have, and a server that fails at first is asked again."""
    config = "phone_home: {url: 'http://127.0.0.1/$INSTANCE_ID/', post: [hostname, instance_id], tries: 2}\n"
    report = run(scratch, f"#cloud-config\n{config}")
    assert report["state"] == "done"
    post = "POST /7c0e5a3e-0000-4000-8000-000000000001/ "
    fields = "hostname=vm01&instance_id=7c0e5a3e-0000-4000-8000-000000000001"
    assert requests(scratch) == [post + fields] * 2


def test_a_phone_that_nobody_answers(scratch: Scratch) -> None:
    """It is a failure of that key, and what stands beside it is done."""
    config = "phone_home: {url: 'http://127.0.0.1/fails', tries: 1}\nruncmd: [echo ran >>/var/tmp/order]\n"
    report = run(scratch, f"#cloud-config\n{config}")
    assert report["state"] == "failed"
    assert order(scratch) == ["ran"]
    assert "HTTP 500" in json.dumps(report)
