"""Password hashes through the system's own libcrypt: Python's `crypt` is gone from 3.13.

yescrypt where libcrypt has it (libxcrypt, Debian 11 and newer), else SHA-512; where there is no
libcrypt, `openssl passwd -6 -stdin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from csagent.errors import ApplyError
from csagent.model import Secret

if TYPE_CHECKING:
    from csagent.system.seams import System

LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")
PREFIXES = (b"$y$", b"$6$")
OPENSSL_TIMEOUT = 20.0


def _load() -> Optional[Any]:
    import ctypes

    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.crypt.restype = ctypes.c_char_p
        library.crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        return library
    return None


def make_hash(system: "System", secret: Secret) -> str:
    """A new salted hash for /etc/shadow.

    Raises:
        ApplyError: neither libcrypt nor openssl made one.
    """
    library = _load()
    if library is not None and hasattr(library, "crypt_gensalt"):
        import ctypes

        library.crypt_gensalt.restype = ctypes.c_char_p
        library.crypt_gensalt.argtypes = [ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_int]
        for prefix in PREFIXES:
            setting = library.crypt_gensalt(prefix, 0, None, 0)
            made = library.crypt(secret.reveal(), setting) if setting else None
            if made and made.startswith(prefix):
                return bytes(made).decode("ascii")
    done = system.runner.run(
        ["openssl", "passwd", "-6", "-stdin"], stdin=secret.reveal() + b"\n", timeout=OPENSSL_TIMEOUT
    )
    text = done.output.decode("ascii", "replace").strip()
    if done.code != 0 or not text.startswith("$6$") or "\n" in text:
        raise ApplyError(
            "no way to hash a password here: libcrypt has no crypt_gensalt, openssl did not help"
        )
    return text


def matches(secret: Secret, known: str) -> Optional[bool]:
    """Whether a hash is this password's; None where libcrypt cannot tell (it is not there, other method)."""
    library = _load()
    if library is None or not known.startswith("$"):
        return None
    made = library.crypt(secret.reveal(), known.encode("ascii", "replace"))
    if not made or made.startswith(b"*"):
        return None
    return bool(bytes(made).decode("ascii", "replace") == known)
