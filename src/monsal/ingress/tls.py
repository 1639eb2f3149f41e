"""TLS of incoming connections, without a socket: ciphertext in, plaintext out, and the other way round.

    context = server_context(cert, key)
    stream = TlsStream(context)
    plain = stream.receive(data)          # raises ssl.SSLError for what is no TLS
    transport.write(stream.pending())     # after each call: handshake, alerts, what `send` encrypted

It is driven by `Connection` and not by the loop: so one path serves STARTTLS, `smtps://` and TLS behind a PROXY header,
the limits of a connection hold as without TLS, and our side can be closed alone, so that a last word arrives.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from monsal.errors import ConfigError

__all__ = ["TlsStream", "server_context"]

#: Octets that are decrypted at a time; a record has at most 16 kB (RFC 8446, section 5.1).
_PIECE = 64 * 1024


def server_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 and newer with the certificate (and its chain) in `cert`; its key is in `key`, or in the same file.

    Raises ConfigError saying what is wrong with the files.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Else a client could have the loop do handshakes without end (TLS 1.2).
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    for name, path in (("tls_cert", cert), ("tls_key", key)):
        if path is not None and not path.is_file():
            raise ConfigError(f"{name}: there is no file {path}")
    try:
        # A key with a password would be asked for on the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        raise ConfigError(
            f"tls_cert, tls_key: {cert} and {key or cert} are no certificate with its key (without a password), "
            f"in PEM: {error.reason or error}"
        ) from None
    except OSError as error:
        raise ConfigError(f"tls_cert, tls_key: {error.filename or cert}: {error.strerror or error}") from None
    return context


class TlsStream:
    """One encrypted link, seen from the server. `established` once the handshake is done."""

    __slots__ = ("_in", "_object", "_out", "established")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_side=True)
        self.established = False

    def receive(self, data: bytes) -> bytes:
        """What the ciphertext says; empty during the handshake. Raises ssl.SSLError; then there may be an alert."""
        self._in.write(data)
        pieces = []
        try:
            if not self.established:
                self._object.do_handshake()
                self.established = True
            while piece := self._object.read(_PIECE):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            # All that is complete was read.
            return b"".join(pieces)
        except ssl.SSLZeroReturnError:
            # The client says no more; the end of its connection will tell.
            return b"".join(pieces)
        return b"".join(pieces)

    def send(self, data: bytes) -> bytes:
        """The ciphertext of `data`."""
        self._object.write(data)
        return self._out.read()

    def pending(self) -> bytes:
        """What TLS itself has to say."""
        return self._out.read()

    def close(self) -> bytes:
        """The last word of our side (close_notify)."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            # The client's own last word is not waited for (RFC 8446, section 6.1); before the handshake there is none.
            return self._out.read()
        return self._out.read()

    @property
    def description(self) -> str:
        """Version and cipher, for people."""
        cipher = self._object.cipher()
        return f"{self._object.version()} {cipher[0] if cipher else ''}".strip()
