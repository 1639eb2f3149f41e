"""Whose modules `salmon` and `lamson` are, and that nothing happens before somebody asks."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

from monsal.compat import install, uninstall
from monsal.errors import UsageError

MODULES = ["bounce", "confirm", "encoding", "mail", "queue", "routing", "server", "testing", "utils", "view"]


def test_importing_does_nothing() -> None:
    code = "import sys; before = list(sys.meta_path); import monsal.compat; print(sys.meta_path == before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("package", ["salmon", "lamson"])
@pytest.mark.parametrize("name", MODULES)
def test_each_module_is_ours_under_both_names(package: str, name: str) -> None:
    found = importlib.import_module(f"{package}.{name}")
    assert found.__name__.startswith("monsal.compat.salmon.")
    assert found.__spec__.name == found.__name__, "or it could not be reloaded"
    assert getattr(importlib.import_module(package), name) is found
    assert found is importlib.import_module(f"salmon.{name}")


def test_what_is_no_module_of_theirs_is_not_found() -> None:
    for name in ("salmon.commands", "salmon.handlers.nothing", "lamson.spam"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


def test_installing_twice_is_harmless_and_uninstalling_undoes_it() -> None:
    install()
    routing = importlib.import_module("salmon.routing")
    routing.Router.defaults(host="example")
    routing.route("a@(host)")(lambda message: None)
    importlib.import_module("salmon.view").LOADER = object()
    uninstall()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("salmon.routing")
    assert "salmon" not in sys.modules
    install()
    again = importlib.import_module("salmon.routing").Router
    assert (again is routing.Router, again.ORDER, again.DEFAULT_CAPTURES) == (True, [], {})
    assert importlib.import_module("salmon.view").LOADER is None
    uninstall()
    uninstall()


def test_the_ancestor_itself_must_not_be_there_before() -> None:
    uninstall()
    sys.modules["salmon"] = ModuleType("salmon")
    try:
        with pytest.raises(UsageError, match="call it first"):
            install()
    finally:
        del sys.modules["salmon"]


def test_handler_modules_belong_to_the_name_they_are_loaded_as() -> None:
    router = importlib.import_module("salmon.routing").Router
    log = importlib.import_module("salmon.handlers.log")
    assert (log.START.__module__, log.__name__) == ("salmon.handlers.log", "salmon.handlers.log")
    assert router.ORDER == ["^(?P<to>.+)@(?P<host>.+)$"]
    assert importlib.import_module("lamson.handlers.log").START.__module__ == "lamson.handlers.log"
    router.clear_routes()
    importlib.reload(log)
    assert len(router.ORDER) == 1
