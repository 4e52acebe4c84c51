"""Real cloud-init's own parser as a process: what it makes of a document, without running anything.

It is the oracle of the differential tests. It needs a Debian tree with the package cloud-init in it, of which
it uses the Python modules only: no root, no chroot, some milliseconds a document.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Mapping

from support.printed_lines import line_of

INSTANCE = "7c0e5a3e-0000-4000-8000-000000000001"
METADATA = {"instance-id": INSTANCE, "local-hostname": "vm01"}

WORKER = r"""
import base64, hashlib, json, logging, os, sys, tempfile, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, os.path.join(sys.argv[1], "usr/lib/python3/dist-packages"))
logging.disable(logging.CRITICAL)
from cloudinit import user_data as ud, helpers, handlers, util
from cloudinit.handlers import cloud_config, jinja_template

IID = sys.argv[2]
DATA = json.loads(sys.argv[3])

class Source:
    userdata = None
    def get_instance_id(self): return IID
    def get_userdata_raw(self): return b""

def plain(value):
    if isinstance(value, dict):
        return {repr(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, str) else repr(value)

def look(document):
    with tempfile.TemporaryDirectory() as scratch:
        where = {"cloud_dir": scratch + "/lib", "run_dir": scratch + "/run", "templates_dir": scratch}
        paths = helpers.Paths(where, ds=Source())
        os.makedirs(os.path.join(scratch, "lib/instances", IID), exist_ok=True)
        found = {"parts": [], "config": {}, "error": None}
        try:
            message = ud.UserDataProcessor(paths).process(document)
        except Exception as error:
            found["error"] = type(error).__name__
            return found
        merging = cloud_config.CloudConfigPartHandler(paths)
        merging.handle_part(None, "__begin__", None, None, None, None)
        for number, part in enumerate(message.walk()):
            if part.is_multipart():
                continue
            kind, name = part.get_content_type(), part.get_filename() or "part-?"
            body = util.fully_decoded_payload(part)
            raw = body if isinstance(body, bytes) else (body or "").encode("utf-8", "surrogateescape")
            digest = hashlib.sha256(raw).hexdigest()
            entry = {"type": kind, "name": util.clean_filename(name), "sha256": digest}
            found["parts"].append(entry)
            text = raw.decode("utf-8", "surrogateescape")
            if kind == "text/jinja2":
                try:
                    if jinja_template.detect_template(text)[0] != "jinja":
                        raise ValueError("its header is not the first line")
                    text = jinja_template.render_jinja_payload(text, name, DATA)
                    kind = handlers.type_from_starts_with(text) if text else None
                    entry["rendered"] = kind
                    entry["missing"] = "CI_MISSING_JINJA_VAR" in (text or "")
                except Exception as error:
                    entry["rendered"] = "error"
                    continue
            if kind in ("text/cloud-config", "text/cloud-config-jsonp"):
                before = len(merging.file_names)
                merging.handle_part(None, kind, name, text, None, dict(part.items()))
                entry["merged"] = len(merging.file_names) > before
        found["config"] = plain(merging.cloud_buf or {})
        return found

for line in sys.stdin:
    print(json.dumps(look(base64.b64decode(line))), flush=True)
"""


class Oracle:
    """One worker; `look` asks it."""

    def __init__(self, tree: Path, metadata: Mapping[str, str] = METADATA) -> None:
        data = {
            "ds": {"meta_data": dict(metadata)},
            "v1": {"instance_id": INSTANCE, "local_hostname": metadata["local-hostname"], "distro": "debian"},
        }
        words = [sys.executable, "-c", WORKER, str(tree), INSTANCE, json.dumps(data)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def look(self, document: bytes) -> Dict[str, Any]:
        """`parts` (type, name, sha256), the merged `config`, and an `error` where it fell over."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(base64.b64encode(document) + b"\n")
        self._process.stdin.flush()
        found = json.loads(line_of(self._process))
        assert isinstance(found, dict)
        return found

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=600)


def plain(value: Any) -> Any:
    """A value in the form in which the oracle tells it."""
    if isinstance(value, dict):
        return {repr(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, str) else repr(value)
