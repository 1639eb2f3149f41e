"""Certificates for tests, made without any program or library for it: X.509 in DER (RFC 5280), ECDSA on P-256."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

# The curve P-256 (FIPS 186-4, D.1.2.3): y^2 = x^3 - 3x + b over the integers modulo P, G of order N.
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None


def _add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P) % P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def _times(number: int, point: Point) -> tuple[int, int]:
    total: Point = None
    while number:
        if number & 1:
            total = _add(total, point)
        point = _add(point, point)
        number >>= 1
    assert total is not None
    return total


def _der(tag: int, *content: bytes) -> bytes:
    body = b"".join(content)
    size = len(body)
    if size < 128:
        return bytes((tag, size)) + body
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 128 + len(octets))) + octets + body


def _integer(number: int) -> bytes:
    return _der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    body = bytearray([40 * first + second])
    for part in rest:
        octets = [part & 127]
        while part := part >> 7:
            octets.insert(0, 128 | part & 127)
        body += bytes(octets)
    return _der(0x06, bytes(body))


def _name(text: str) -> bytes:
    return _der(0x30, _der(0x31, _der(0x30, _oid("2.5.4.3"), _der(0x0C, text.encode()))))


def _time(at: datetime) -> bytes:
    return _der(0x18, at.strftime("%Y%m%d%H%M%SZ").encode())


def _extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    return _der(0x30, _oid(oid), _der(0x01, b"\xff") if critical else b"", _der(0x04, value))


def _pem(kind: str, der: bytes) -> str:
    body = base64.encodebytes(der).decode().replace("\n", "")
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""])


_ECDSA_SHA256 = _der(0x30, _oid("1.2.840.10045.4.3.2"))
_EC_P256 = _der(0x30, _oid("1.2.840.10045.2.1"), _oid("1.2.840.10045.3.1.7"))


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key: as files, and able to sign others."""

    name: str
    cert: str
    key: str
    secret: int
    key_id: bytes


def make_certificate(
    directory: Path, name: str, *, signer: Certificate | None = None, hosts: tuple[str, ...] = (), days: int = 1
) -> Certificate:
    """A certificate for `name`, valid for `hosts` (IPv4 addresses); without `signer` an authority, signed by itself."""
    secret = secrets.randbelow(N - 1) + 1
    x, y = _times(secret, G)
    point = b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")
    public = _der(0x30, _EC_P256, _der(0x03, b"\0" + point))
    now = datetime.now(UTC)
    key_id = hashlib.sha1(point).digest()
    extensions = [
        _extension("2.5.29.19", _der(0x30, b"" if signer else _der(0x01, b"\xff")), critical=True),
        _extension("2.5.29.14", _der(0x04, key_id)),
        _extension("2.5.29.35", _der(0x30, _der(0x80, signer.key_id if signer else key_id))),
    ]
    if not signer:
        extensions.append(_extension("2.5.29.15", _der(0x03, b"\x02\x04"), critical=True))  # keyCertSign
    if hosts:
        addresses = [_der(0x87, bytes(map(int, host.split(".")))) for host in hosts]
        extensions.append(_extension("2.5.29.17", _der(0x30, *addresses)))
    statement = _der(
        0x30,
        _der(0xA0, _integer(2)),
        _integer(secrets.randbits(64)),
        _ECDSA_SHA256,
        _name(signer.name if signer else name),
        _der(0x30, _time(now - timedelta(hours=1)), _time(now + timedelta(days=days))),
        _name(name),
        public,
        _der(0xA3, _der(0x30, *extensions)),
    )
    by = signer.secret if signer else secret
    certificate = _der(0x30, statement, _ECDSA_SHA256, _der(0x03, b"\0" + _signature(by, statement)))
    inner = _der(0x30, _integer(1), _der(0x04, secret.to_bytes(32, "big")), _der(0xA1, _der(0x03, b"\0" + point)))
    key = _der(0x30, _integer(0), _EC_P256, _der(0x04, inner))
    files = directory / f"{name}.pem", directory / f"{name}.key"
    files[0].write_text(_pem("CERTIFICATE", certificate))
    files[1].write_text(_pem("PRIVATE KEY", key))
    return Certificate(name, str(files[0]), str(files[1]), secret, key_id)


def _signature(secret: int, statement: bytes) -> bytes:
    digest = int.from_bytes(hashlib.sha256(statement).digest(), "big")
    nonce = secrets.randbelow(N - 1) + 1
    r = _times(nonce, G)[0] % N
    return _der(0x30, _integer(r), _integer(pow(nonce, -1, N) * (digest + r * secret) % N))
