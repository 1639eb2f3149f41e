"""What a `LocalService` says of itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from monsal.config import mask_secrets
from monsal.engine import Engine
from monsal.ingress import Ingress, LmtpIngress, SmtpIngress
from monsal.memory import memory_of
from monsal.outline import Doing
from monsal.web import Web

if TYPE_CHECKING:
    from monsal.troupe import Troupe

__all__ = ["LocalView", "addresses_of"]


class _Served(Protocol):
    """The service that is looked at."""

    waits_for: str
    engine: Engine | None
    troupe: Troupe | None
    web: Web
    ingresses: list[SmtpIngress]

    def ways_in(self) -> list[Ingress]: ...


class LocalView:
    """What a `LocalService` says of itself."""

    def __init__(self, service: _Served, directory: Path, store: str) -> None:
        self._service = service
        self._directory = directory
        self._store = store
        self._since = time.monotonic()

    def store_doing(self) -> str:
        return self._service.waits_for or mask_secrets(self._store)

    def addresses(self) -> dict[str, list[str]]:
        found = addresses_of(self._directory, self._service.ingresses)
        found["http"] += [address.removeprefix(f"{self._directory}/") for address in self._service.web.addresses]
        return {**found, "rpc": [] if self._service.engine is None else list(self._service.engine.apis.addresses)}

    def notes(self) -> list[str]:
        return []

    def example(self) -> str:
        engine = self._service.engine
        return (engine.router.table.example() if engine is not None else None) or "ADDRESS"

    async def figures(self) -> dict[str, Any]:
        engine = self._service.engine
        if engine is None:
            return {}
        return {
            "ingress": {
                address: msgspec.structs.asdict(ingress.statistics())
                for ingress in self._service.ways_in()
                for address in ingress.addresses
            },
            "worker": msgspec.structs.asdict(engine.worker.statistics()),
            "spool": msgspec.structs.asdict(engine.spool.statistics()),
            "relay": msgspec.structs.asdict(engine.pump.statistics()),
            "http": msgspec.structs.asdict(self._service.web.statistics()),
            "rpc": msgspec.structs.asdict(engine.apis.statistics()),
        }

    def progress(self) -> tuple[int, float] | None:
        engine = self._service.engine
        if engine is None:
            return None
        counts = engine.worker.statistics()
        due = engine.store.next_work()
        late = 0.0 if due is None else engine.clock.now() - due
        return counts.turns + counts.failures + counts.conflicts + counts.fenced, late

    async def workers(self) -> list[dict[str, Any]]:
        engine = self._service.engine
        if engine is None:
            return []
        counts = engine.worker.statistics()
        row = {
            "name": "server",
            "pid": os.getpid(),
            "state": "running",
            "uptime": round(time.monotonic() - self._since, 1),
            "turns": counts.turns,
            "memory": memory_of(os.getpid()),
            "restarts": 0,
            "last_end": "",
            "silent": 0.0,
            "doing": engine.worker.describe(),
        }
        troupe = self._service.troupe
        return [row, *([] if troupe is None else troupe.rows())]

    def tell(self, part: str) -> Doing:
        engine = self._service.engine
        if part == "http":
            return Doing(doing=self._service.web.doing())
        return Doing() if engine is None else _TELL[part](engine, self._service.ingresses)


def _workers(engine: Engine, ingresses: list[SmtpIngress]) -> Doing:
    stuck = engine.worker.statistics().stuck
    health = f"{stuck} handlers are past their deadline; their correspondents wait" if stuck else None
    return Doing(doing=engine.worker.describe(), health=health)


def _outbox(engine: Engine, ingresses: list[SmtpIngress]) -> Doing:
    in_flight = engine.pump.statistics().in_flight
    return Doing(
        doing=f"{in_flight} mails are being sent" if in_flight else "",
        health=f"the relay takes nothing: {engine.pump.reason}" if engine.pump.reason else None,
    )


def _ingress(engine: Engine, ingresses: list[SmtpIngress]) -> Doing:
    found = [ingress.statistics() for ingress in ingresses]
    connections, busy = sum(each.connections for each in found), sum(each.busy for each in found)
    return Doing(
        doing=f"{connections} connections, {busy} of them with a mail that is being stored" * bool(connections)
    )


def _api(engine: Engine, ingresses: list[SmtpIngress]) -> Doing:
    stuck = engine.apis.statistics().stuck
    health = f"{stuck} calls of programs are past their deadline and hang" if stuck else None
    return Doing(doing=engine.apis.describe(), health=health)


_TELL: Mapping[str, Callable[[Engine, list[SmtpIngress]], Doing]] = {
    "workers": _workers,
    "outbox": _outbox,
    "ingress": _ingress,
    "api": _api,
}


def addresses_of(directory: Path, ingresses: list[SmtpIngress]) -> dict[str, list[str]]:
    """Where ingresses listen, by protocol; paths from the application's directory."""
    addresses: dict[str, list[str]] = {"smtp": [], "lmtp": [], "http": []}
    for ingress in ingresses:
        kind = "lmtp" if isinstance(ingress, LmtpIngress) else "smtps" if ingress.gate.implicit else "smtp"
        addresses.setdefault(kind, []).extend(address.removeprefix(f"{directory}/") for address in ingress.addresses)
    return addresses
