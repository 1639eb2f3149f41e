"""Keys for DKIM: read from files, made, and shown as the DNS should have them (extra `dkim`).

A key lies in `SELECTOR.pem` (PKCS 8). Of a directory the newest file of each algorithm signs, so a key is changed by
making another one, publishing it, and starting anew; the old one stays published until no mail of it is under way.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from monsal.errors import ConfigError
from monsal.mail.dkim import DkimKey, DkimSigner

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey = RSAPrivateKey | Ed25519PrivateKey

__all__ = ["Algorithm", "dns_record", "key_files", "make_key", "open_signer"]

Algorithm = Literal["rsa", "ed25519"]

#: Shorter ones are not to be believed (RFC 8301, section 3.2).
_SHORTEST_RSA = 1024
#: Group may read, nobody else may do anything.
_FORBIDDEN = 0o037
_LABEL = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*"
)


def open_signer(path: Path, *, domain: str | None = None, selector: str | None = None) -> DkimSigner:
    """The signer with the key in the file `path`, or with the newest keys in the directory `path`.

    A file's selector is its name without `.pem`, unless `selector` says another. Raises ConfigError for what is no
    key, is too short, or can be read by others.
    """
    newest: dict[str, DkimKey] = {}
    for each in key_files(path):
        key = _load(each)
        name = selector if selector is not None and not path.is_dir() else each.stem
        if not _LABEL.fullmatch(name):
            raise ConfigError(f"dkim_key {each}: {name!r} is no selector (letters, digits, hyphens, dots)")
        newest.setdefault(_algorithm(key), _signing(name, key))
    return DkimSigner(domain=domain.lower() if domain else None, keys=tuple(newest.values()))


def key_files(path: Path) -> list[Path]:
    """The key files that `path` means, the newest first. Raises ConfigError if there is none."""
    try:
        found = list(path.glob("*.pem")) if path.is_dir() else [path]
        found.sort(key=lambda each: (each.stat().st_mtime_ns, each.name), reverse=True)
    except OSError as error:
        raise ConfigError(f"dkim_key {path} cannot be read: {error.strerror or error}") from None
    if not found:
        raise ConfigError(f"dkim_key {path} has no key (SELECTOR.pem); `monsal dkim new` makes one")
    return found


def make_key(directory: Path, selector: str, algorithm: Algorithm) -> Path:
    """Make a key that only we may read; its file. Raises ConfigError if there is one of that selector."""
    if not _LABEL.fullmatch(selector):
        raise ConfigError(f"{selector!r} is no selector (letters, digits, hyphens, dots)")
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

    key: PrivateKey = (
        Ed25519PrivateKey.generate() if algorithm == "ed25519" else generate_private_key(65537, key_size=2048)
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = directory / f"{selector}.pem"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} is there already; a new key needs a selector of its own") from None
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    return path


def dns_record(path: Path) -> str:
    """What the TXT record `SELECTOR._domainkey.DOMAIN` of a key file should be (RFC 6376, section 3.6.1)."""
    from cryptography.hazmat.primitives import serialization

    key = _load(path)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if _algorithm(key) == "ed25519-sha256":
        raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return f"v=DKIM1; k=ed25519; p={b64encode(raw).decode('ascii')}"
    der = b64decode(b"".join(public.splitlines()[1:-1]))
    return f"v=DKIM1; k=rsa; p={b64encode(der).decode('ascii')}"


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401 - only whether it is there
    except ImportError:
        raise ConfigError("DKIM needs the extra `dkim`: pip install 'monsal[dkim]'") from None


def _load(path: Path) -> PrivateKey:
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        if (mode := path.stat().st_mode) & _FORBIDDEN:
            raise ConfigError(f"dkim_key {path} has mode {mode & 0o777:o}: others may read it; chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"dkim_key {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise ConfigError(f"dkim_key {path} is no private key in PEM: {error}") from None
    if isinstance(key, RSAPrivateKey) and key.key_size >= _SHORTEST_RSA:
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise ConfigError(f"dkim_key {path} is neither an RSA key of {_SHORTEST_RSA} bits or more nor an Ed25519 key")


def _algorithm(key: PrivateKey) -> Literal["rsa-sha256", "ed25519-sha256"]:
    return "rsa-sha256" if hasattr(key, "key_size") else "ed25519-sha256"


def _signing(selector: str, key: PrivateKey) -> DkimKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    if isinstance(key, Ed25519PrivateKey):
        return DkimKey(selector, "ed25519-sha256", key.sign)
    rsa = key
    return DkimKey(selector, "rsa-sha256", lambda data: rsa.sign(data, PKCS1v15(), SHA256()))
