"""An application of the ancestor as one of ours: its settings, its boot module, and what follows from them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from monsal.app import App
from monsal.compat import booting
from monsal.compat.naming import install
from monsal.errors import ConfigError

if TYPE_CHECKING:
    from monsal.config import Resolved
    from monsal.routing import Router

__all__ = ["application"]


class _Ancestor(App):
    """The App over the ancestor's router. `relay` is the settings' own if no setting can say it."""

    def __init__(self, modules: Iterable[Any], *, relay: Any, states: Any, given: Mapping[str, Any]) -> None:
        # Its first module is any that is there: which ones there are, the ancestor's boot module says.
        super().__init__("", states=states, **given)
        self._modules = tuple(modules)
        self._relay = relay

    def take_router(self, router: Router) -> None:
        router.defaults(**self._router.default_captures)
        self._router = router

    def settings(self, directory: Path, *, environ: Mapping[str, str] | None = None) -> Resolved:
        resolved = super().settings(directory, environ=environ)
        if self._relay is not None and "relay" not in resolved.origins:
            raise ConfigError(
                f"{self._relay!r} looks up where each mail goes, which a server does by a setting: give it relay, in "
                "monsal.toml or application(relay=...)"
            )
        return resolved


def application(
    boot: str = "config.boot",
    *,
    settings: str = "config.settings",
    modules: Iterable[str | ModuleType | object] = (),
    **given: Any,
) -> App:
    """The application whose boot module this is, to be run by `monsal run`.

    Put this into `app/__init__.py` of the application (or app.py, if it has no package `app`):

        from monsal.compat import application
        app = application()

    The names `salmon` and `lamson` are put in place, the working directory becomes that of the application, as its own
    files are named from there, and the modules `settings` and `boot` are imported. Where mail comes in follows from
    `settings.receiver`, where it goes from `settings.relay`, where states are from `Router.STATE_STORE` if the boot
    module replaced it; `modules` are handler modules in our own manner, with routes behind the ancestor's; `given` are
    further settings of App, and `monsal.toml` and `MONSAL_*` override all of them.

    Raises ConfigError for a receiver or relay that a server cannot take over, and whatever the two modules raise.
    """
    home = _home_of(sys._getframe(1).f_globals)
    install()
    os.chdir(home)
    if str(home) not in sys.path:
        sys.path.insert(0, str(home))
    found = booting.boot(settings, boot)
    app = _Ancestor(
        modules,
        relay=None if "relay" in given or found.relay_url or found.relay is None else found.relay,
        states=found.storage,
        given=_settings_of(found, given),
    )
    app.home = home
    booting.join(found, app.parts().entrances, app.take_router)
    return app


def _settings_of(found: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that follow from the application's own, below those that are `given`."""
    values: dict[str, Any] = {"correspondent": "envelope"}
    if found.relay_url:
        values["relay"] = found.relay_url
    if found.receiver_url:
        values["ingress"] = [found.receiver_url]
    elif found.receiver is not None and "ingress" not in given:
        raise ConfigError(f"a server cannot take over {found.receiver!r}; give application(ingress=[...])")
    return {**values, **given}


def _home_of(caller: Mapping[str, Any]) -> Path:
    """The directory that the caller's module is imported from: above the package `app`, or that of app.py."""
    name, path = str(caller.get("__name__", "app")), Path(str(caller.get("__file__", "app.py"))).resolve()
    levels = name.count(".") + (path.stem == "__init__")
    return path.parents[levels]
