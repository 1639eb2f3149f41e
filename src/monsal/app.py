"""The application object: composed without input or output, read-only from then on.

    app = App("orders.handlers", captures={"host": literal("example.com")}, relay="smtp://127.0.0.1:25")

`monsal run` finds it as `app` in `app.py` and serves it; `monsal.testing.client` drives it in memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from monsal.config import Resolved, load_settings
from monsal.errors import ConfigError, UsageError
from monsal.outline import Parts
from monsal.routing import Router

if TYPE_CHECKING:
    from monsal.actors import ActorSpec, GroupSpec
    from monsal.conversation import Delivery, Entrance
    from monsal.exposure import Exposure
    from monsal.http import Mount
    from monsal.rpc import RemoteAPI
    from monsal.transport import Address

__all__ = ["MAX_BODY", "App"]

#: Octets of the body of a request, unless the mount says otherwise: forms, and the hooks of most services.
MAX_BODY = 256 * 1024


class App:
    """An application: its handler modules and how it is to be run.

    `modules` are names of handler modules (or modules, or handler objects). `captures` are those known to every
    route. `states` is a storage with get, set and clear that keeps the states instead of the store; the
    promise is then weaker (capability `atomic_turn` is False). `tables` is SQL that is run when the store is opened,
    for tables of the application's own (`create table if not exists ...`). `templates` is the folder of templates,
    relative to the application's directory. `actors` are started with the server, and can be asked by handlers
    (`await ask("indexer", ...)`). Every other setting (`store`, `ingress`, `relay`, ...: see
    `monsal config`) can be overridden by `monsal.toml` and `MONSAL_*`.

    Nothing is imported, opened or checked against the outside here; `load` and `settings` do that.
    """

    def __init__(
        self,
        *modules: str | ModuleType | object,
        captures: Mapping[str, Any] | None = None,
        states: Any = None,
        tables: str | Iterable[str] = (),
        templates: str | os.PathLike[str] = "templates",
        actors: Iterable[ActorSpec | GroupSpec] = (),
        **settings: Any,
    ) -> None:
        if not modules:
            raise ConfigError('an App needs the name of at least one module of handlers, as in App("orders.handlers")')
        self._modules = modules
        self._given = dict(settings)
        self._states = None if states is None else _storage(states)
        self._tables = (tables,) if isinstance(tables, str) else tuple(tables)
        self._templates = Path(templates)
        self._actors = tuple(actors)
        self._exposures: list[Exposure] = []
        self._mounts: list[Mount] = []
        self._entrances: list[Entrance] = []
        # Where it is written down is where its templates and tests expect it, from whatever directory they are run.
        self.home = Path(sys._getframe(1).f_globals.get("__file__", "app.py")).parent
        self._router = Router()
        self._router.defaults(**(captures or {}))

    @property
    def router(self) -> Router:
        """The application's own table of routes; empty until `load`."""
        return self._router

    def load(self) -> None:
        """Import the handler modules and build the table of routes. Loading twice is harmless.

        Raises RouteError naming the module, route or mark that is wrong.
        """
        if not self._router.is_loaded:
            self._router.load(self._modules)

    def settings(self, directory: Path, *, environ: Mapping[str, str] | None = None) -> Resolved:
        """The settings in force for `directory`, each with its origin. Raises ConfigError."""
        named = App.__init__.__kwdefaults__ or {}
        return load_settings(self._given, directory, os.environ if environ is None else environ, beside=named)

    def expose(
        self,
        api: type[RemoteAPI] | RemoteAPI,
        *,
        at: str | Address,
        security: Any = None,
        codec: str = "jrpc:\n",
        slow_reader: float = 20.0,
    ) -> RemoteAPI:
        """Let other programs call the incoming calls of `api` at an address; the instance that takes them.

        `at` is `unix:PATH` (relative to the application's directory), `tcp://HOST:PORT` or `tcps://...`; what others
        than this host can reach needs a `security`, or TLS that asks for certificates. JSON-RPC is spoken, one object a
        line, unless `codec` says otherwise. A program that leaves our words unread for `slow_reader` seconds is cut.
        Methods run like handlers: plain ones in threads, `async def` ones on a loop of theirs. Listeners are to be
        connected before the application is run.

        Nothing is opened here. Raises ConfigError.
        """
        # Not before, as in `mount`: most applications have none, and are there sooner.
        from monsal.exposure import expose

        exposure = expose(api, at, security=security, codec=codec, slow_reader=slow_reader)
        self._exposures.append(exposure)
        return exposure.api

    def mount(self, path: str, app: Any, *, max_body: int = MAX_BODY) -> None:
        """Serve an ASGI application below a path, at the addresses of the setting `http` (extra `http`).

        `app` is the application, or where it is, as `"module:name"`: then it is imported when it is served. A request
        whose body has more than `max_body` octets is answered with 413. It runs in a thread and on a loop of HTTP's
        own, where `monsal.deliver_async` and `monsal.read_async` (`deliver` and `read` in threads) are those of this
        application. Lifespan events are not sent to it. Let it answer with 2xx after `await deliver_async(...)`, not
        before: then what was asked for is on the disk (P1).

        Nothing is opened here. Raises ConfigError.
        """
        from monsal.http import mounting

        self._mounts.append(mounting(path, app, max_body=max_body))

    def deliver(
        self,
        *,
        to: str | Sequence[str],
        sender: str,
        subject: str = "",
        text: str | None = None,
        html: str | None = None,
        raw: bytes | None = None,
        key: str | None = None,
    ) -> Delivery:
        """`monsal.deliver` for threads of the application's own; raises UsageError unless it runs in this process."""
        entrance = self._entrance()
        return entrance.deliver(to=to, sender=sender, subject=subject, text=text, html=html, raw=raw, key=key)

    def read(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """`monsal.read` for threads of the application's own; raises UsageError unless it runs in this process."""
        return self._entrance().read(sql, params)

    def _entrance(self) -> Entrance:
        if len(self._entrances) != 1:
            raise UsageError(f"this application runs {len(self._entrances)} times in this process; it has to run once")
        return self._entrances[0]

    def parts(self) -> Parts:
        """What a server needs of this application."""
        return Parts(
            router=self._router,
            states=self._states,
            tables=self._tables,
            templates=self._templates,
            actors=self._actors,
            exposures=self._exposures,
            entrances=self._entrances,
            mounts=self._mounts,
        )


def _storage(states: Any) -> Any:
    # It knows the shelf, which most do without.
    from monsal.store.states import as_storage

    return as_storage(states)
