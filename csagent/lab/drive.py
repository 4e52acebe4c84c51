"""Config drives laid out as CloudStack's, to try csagent on: ``csagent lab drive FILE.iso``.

Layout, names, file modes and label are those of field/cloudstack#6.1 to #6.3: Rock Ridge and Joliet,
label ``config-2``, a ``cloudstack/`` and an ``openstack/latest/`` tree, files 0444. Written through
pycdlib, so that no ISO maker has to be installed.
"""

from __future__ import annotations

import io
import json
import os
import re
from typing import TYPE_CHECKING, Any, Dict, Mapping, Set

from csagent import validation
from csagent.errors import EXIT_OK, CsagentError, UsageError
from csagent.lab.cloud import Cloud, escape, load
from csagent.system.files import replace_at

if TYPE_CHECKING:
    import argparse

LABEL = "config-2"
FILE_MODE = 0o100444
ISO_NAME_LIMIT = 30  # ECMA-119, 7.5.1: name and extension without the separators

# What CloudStack writes with \uXXXX; the user's own keys too (field/cloudstack#2.4).
_VERBATIM = frozenset(
    (
        "public-keys",
        "vm-id",
        "instance-id",
        "local-ipv4",
        "public-ipv4",
        "public-hostname",
        "cloud-identifier",
    )
)
# Members of meta_data.json that keep the name of the key (field/cloudstack#6.3); other known keys have none.
_SAME_NAME = ("cloud-domain", "cloud-domain-id", "cloud-name", "hypervisor-host-name")
_NO_MEMBER = _VERBATIM | {"service-offering", "local-hostname", "availability-zone"}


def files_for(cloud: Cloud) -> Dict[str, bytes]:
    """The files of the drive that CloudStack would make for a VM, by path.

    A blank value has no file, user-data has one in each tree, and vm_password.txt is there only while a
    password is waiting (field/cloudstack#6.2).

    Raises:
        UsageError: a metadata key that cannot be a file name.
    """
    values: Dict[str, str] = {
        "instance-id": cloud.instance_id,
        "vm-id": cloud.instance_id,
        "local-hostname": cloud.hostname,
        "public-keys": "\n".join(cloud.ssh_keys),
        **cloud.metadata,
    }
    for key in values:
        if not validation.metadata_key(key):
            raise UsageError(f"metadata: {validation.excerpt(key)} cannot be the name of a file on a drive")
    values = {
        key: value if key in _VERBATIM else escape(value) for key, value in values.items() if value.strip()
    }
    files = {
        f"cloudstack/metadata/{key}.txt": value.encode("utf-8", "replace") for key, value in values.items()
    }
    if cloud.password:
        files["cloudstack/password/vm_password.txt"] = cloud.password.encode("utf-8", "replace")
    if cloud.user_data:
        files["cloudstack/userdata/user_data.txt"] = cloud.user_data
        files["openstack/latest/user_data"] = cloud.user_data
    files["openstack/latest/meta_data.json"] = json.dumps(_meta_data(values)).encode()
    network = cloud.network.file()
    if network is not None:
        files["openstack/latest/network_data.json"] = network
    files["openstack/latest/vendor_data.json"] = b"{}"
    return files


def _meta_data(values: Mapping[str, str]) -> Dict[str, Any]:
    document: Dict[str, Any] = {}
    for key, member in (
        ("availability-zone", "availability_zone"),
        ("local-hostname", "hostname"),
        ("vm-id", "uuid"),
        ("public-hostname", "name"),
    ):
        if key in values:
            document[member] = values[key]
    document.update({key: values[key] for key in _SAME_NAME if key in values})
    if "public-keys" in values:  # one entry, however many keys there are (field/cloudstack#5)
        document["keys"] = [{"type": "ssh", "data": values["public-keys"], "name": "key"}]
        document["public_keys"] = {"key": values["public-keys"]}
    custom = {key: value for key, value in values.items() if key not in _NO_MEMBER and key not in _SAME_NAME}
    return {**custom, **document}


# --- the image ------------------------------------------------------------------------------------


def image(
    files: Mapping[str, bytes], label: str = LABEL, *, rock_ridge: bool = True, joliet: bool = True
) -> bytes:
    """An ISO 9660 image with the given files, by path.

    Raises:
        UsageError: the label cannot be a volume id.
    """
    import pycdlib

    if not 0 < len(label) <= 32 or not label.isascii() or not label.isprintable():
        raise UsageError("--label: needs 1 to 32 ASCII characters")
    iso = pycdlib.PyCdlib()
    iso.new(
        interchange_level=3,
        vol_ident=label,
        joliet=3 if joliet else None,
        rock_ridge="1.09" if rock_ridge else None,
    )
    iso_paths = {"": ""}
    taken: Set[str] = set()
    for path in sorted(files):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            _add_directory(iso, "/".join(parts[:depth]), iso_paths, taken, rock_ridge, joliet)
        parent, _, name = path.rpartition("/")
        content = files[path]
        iso.add_fp(
            io.BytesIO(content),
            len(content),
            f"{_iso_path(iso_paths[parent], name, taken)};1",
            rr_name=name if rock_ridge else None,
            joliet_path="/" + path if joliet else None,
            file_mode=FILE_MODE if rock_ridge else None,
        )
    output = io.BytesIO()
    iso.write_fp(output)
    iso.close()
    return output.getvalue()


def _add_directory(
    iso: Any, path: str, iso_paths: Dict[str, str], taken: Set[str], rock_ridge: bool, joliet: bool
) -> None:
    if path in iso_paths:
        return
    parent, _, name = path.rpartition("/")
    iso_paths[path] = _iso_path(iso_paths[parent], name, taken)
    iso.add_directory(
        iso_paths[path],
        rr_name=name if rock_ridge else None,
        joliet_path="/" + path if joliet else None,
        file_mode=0o040555 if rock_ridge else None,
    )


def _iso_path(parent: str, name: str, taken: Set[str]) -> str:
    """A path for the plain tree, made as genisoimage makes it: upper case, with _ for what it has not."""
    base, dot, extension = name.rpartition(".")
    if not dot:
        base, extension = name, ""
    base, extension = (re.sub(r"[^A-Z0-9_]", "_", part.upper()) for part in (base, extension))
    extension = extension[:8]
    base = base[: ISO_NAME_LIMIT - len(extension)]
    for number in range(1000):
        numbered = base if number == 0 else f"{base[: ISO_NAME_LIMIT - len(extension) - 3]}{number:03}"
        path = f"{parent}/{numbered}.{extension}" if extension else f"{parent}/{numbered}"
        if path not in taken:
            taken.add(path)
            return path
    raise UsageError("too many metadata keys whose names begin alike for a config drive")


def build(path: str, files: Mapping[str, bytes], label: str = LABEL) -> None:
    """Write an image, as a whole and with mode 0600, since it holds a password.

    Raises:
        UsageError: the label cannot be a volume id, or the path is a device or the like.
        CsagentError: the file cannot be written.
    """
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path)):
        raise UsageError(f"{path}: exists and is not a regular file; write an image and copy it there")
    content = image(files, label)
    try:
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            replace_at(directory, os.path.basename(path), content, 0o600)
        finally:
            os.close(directory)
    except OSError as error:
        raise CsagentError(f"{path}: cannot be written ({error.strerror})") from None


def build_tree(path: str, files: Mapping[str, bytes]) -> None:
    """Write the files into a new or empty directory, modes 0700 and 0600.

    Raises:
        UsageError: something is there already.
        CsagentError: the directory cannot be written.
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        if os.listdir(path):
            raise UsageError(f"--tree {path}: is not empty; name a new directory")
        os.chmod(path, 0o700)
        for name, content in files.items():
            directory, *below = path, *name.split("/")[:-1]
            for part in below:
                directory = os.path.join(directory, part)
                if not os.path.isdir(directory):
                    os.mkdir(directory, 0o700)
            target = os.path.join(path, name)
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as stream:
                stream.write(content)
    except OSError as error:
        raise CsagentError(f"{path}: cannot be written ({error.strerror})") from None


# --- the command ----------------------------------------------------------------------------------


def add_arguments(parser: "argparse.ArgumentParser") -> None:
    """Declare the arguments of ``csagent lab drive``."""
    parser.add_argument("file", nargs="?", metavar="FILE.iso", help="the image to write")
    parser.add_argument("--cloud", metavar="CLOUD.yaml", help="describes the VM; an example VM without it")
    parser.add_argument("--label", default=LABEL, help="volume id (default: %(default)s)")
    parser.add_argument("--tree", metavar="DIR", help="write a directory instead of an image")


def run(args: "argparse.Namespace") -> int:
    """``csagent lab drive``: write the image or directory, and say what to run next.

    Raises:
        UsageError: neither or both of FILE.iso and --tree, or a bad description.
        CsagentError: it cannot be written.
    """
    if (args.file is None) == (args.tree is None):
        raise UsageError("csagent lab drive: needs either FILE.iso or --tree DIR")

    files = files_for(load(args.cloud) if args.cloud is not None else Cloud())
    if args.tree is not None:
        build_tree(args.tree, files)
    else:
        build(args.file, files, args.label)
    print(f"Wrote {len(files)} files to {args.tree or args.file}. Next:")
    print(f"  csagent fetch --drive {args.tree or args.file}")
    return EXIT_OK
