"""A request to what an application serves by HTTP, without a socket."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from monsal.http import Mounts

__all__ = ["Answer", "ask"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request; `headers` have small letters, the last of a name counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


async def ask(mounts: Mounts, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Have one request answered; of `url` only path and query count."""
    parts = urlsplit(url)
    given = {"host": parts.netloc or "client.test", "content-length": str(len(body)), **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": parts.scheme or "http",
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("client.test", 80),
    }
    said: list[MutableMapping[str, Any]] = []
    waiting: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(event: MutableMapping[str, Any]) -> None:
        said.append(event)

    await mounts(scope, receive, send)
    first, *rest = said
    return Answer(
        status=first["status"],
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in first["headers"]},
        body=b"".join(event.get("body", b"") for event in rest),
    )
