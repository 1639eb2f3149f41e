"""The command line as a process: what it imports, how it ends, how it explains itself."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_world import Invoke

from monsal.cli.exits import exit_code
from monsal.cli.root import COMMANDS, Commands, cli, command_first
from monsal.cli.stop import command as stop
from monsal.errors import (
    AddressError,
    ConfigError,
    MonsalError,
    NoAnswer,
    NotRunning,
    RemoteFault,
    RouteError,
    StoreCorrupt,
    StoreLocked,
    StoreUnavailable,
)

HEAVY = ("asyncio", "apsw", "uvloop", "rich", "jinja2", "smtplib", "email", "monsal.app", "monsal.routing")


def monsal(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monsal.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["stop"], ["dead", "--help"], ["new", "x"], ["config"], ["rpc", "call", "--help"]]
)
def test_a_thin_command_imports_nothing_heavy(home: Path, arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from monsal.cli.root import main\n"
        f"main({arguments!r})\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'imported {found}' if found else 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=home, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_as_a_process_it_ends_with_its_code(home: Path) -> None:
    assert monsal("--version").stdout.startswith("monsal ")
    wrong = monsal("statsu", cwd=home)
    assert wrong.returncode == 64
    assert "did you mean status?" in wrong.stderr
    (home / "app.py").touch()
    none = monsal("stop", cwd=home)
    assert none.returncode == 75
    assert none.stderr.startswith(f"monsal: no server is running in {home.resolve()}: start it with `")


#: Sends itself SIGINT when it is about to load the module of that name.
INTERRUPTED_AT = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
signal.signal(signal.SIGINT, {handler})
from monsal.cli import main
sys.exit(main(sys.argv[2:]))
"""


def interrupted_at(module: str, home: Path, handler: str = "signal.default_int_handler") -> tuple[int, str]:
    (home / "monsal.toml").touch()
    command = [sys.executable, "-c", INTERRUPTED_AT.format(handler=handler), module, "keys", "--dir", str(home)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return ended.returncode, ended.stderr.strip()


@pytest.mark.parametrize("module", ["monsal.cli.root", "click", "uuid", "monsal.errors", "monsal.cli.keys"])
def test_ctrl_c_while_the_command_is_loaded_ends_it_without_a_word(home: Path, module: str) -> None:
    assert interrupted_at(module, home) == (-signal.SIGINT, "")


@pytest.mark.parametrize("module", ["monsal.conversation", "monsal.conversation.keys"])
def test_ctrl_c_while_the_command_runs_ends_it_with_a_word(home: Path, module: str) -> None:
    assert interrupted_at(module, home) == (130, "monsal: interrupted")


@pytest.mark.parametrize("module", ["click", "monsal.cli.keys", "monsal.conversation.keys"])
def test_who_ignores_ctrl_c_goes_on_ignoring_it(home: Path, module: str) -> None:
    assert interrupted_at(module, home, "signal.SIG_IGN") == (0, "")


def test_an_interrupt_that_was_taken_for_another_error_is_one(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    def interrupted(**_: object) -> None:
        class Field:
            def __set_name__(self, owner: type, name: str) -> None:
                raise KeyboardInterrupt

        type("Owner", (), {"field": Field()})

    monkeypatch.setattr(stop, "callback", interrupted)
    result = invoke("stop", "--dir", home)
    assert (result.exit_code, result.stderr) == (130, "monsal: interrupted\n")


def test_an_error_that_is_its_own_cause_ends_a_command(home: Path) -> None:
    (home / "app.py").write_text(
        "one, two = ValueError('one'), KeyError('two')\none.__cause__, two.__cause__ = two, one\nraise one\n"
    )
    command = [sys.executable, "-m", "monsal.cli", "routes", "--dir", str(home)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 64
    assert "cannot be imported: ValueError: one" in ended.stderr


def test_a_reader_that_has_seen_enough_is_no_trouble(home: Path) -> None:
    (home / "monsal.toml").touch()
    command = f"{sys.executable} -m monsal.cli config --json --dir {home} | true"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.stderr == ""


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_helps_with_an_example(invoke: Invoke, name: str) -> None:
    for flag in ("--help", "-h"):
        result = invoke(name, flag)
        assert result.exit_code == 0
        assert f"  monsal {name} " in result.stdout


def test_the_list_of_commands_is_what_there_is() -> None:
    assert isinstance(cli, Commands)
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name
    assert cli.get_command(context, "nothing") is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("help",), "say monsal --help"),
        (("help", "run"), "say monsal run --help"),
        (("version",), "say monsal --version"),
        (("frobnicate",), "monsal --help lists all commands"),
        (("outbox", "send"), "there is no outbox 'send'; there are cancel, list, retry"),
    ],
)
def test_a_word_that_is_no_command_is_answered_with_those_that_are(
    invoke: Invoke, words: tuple[str, ...], says: str
) -> None:
    result = invoke(*words)
    assert result.exit_code == 64
    assert says in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 64),
        (RouteError("x"), 64),
        (AddressError("x"), 65),
        (StoreLocked("x"), 75),
        (StoreUnavailable("x"), 75),
        (NotRunning("x"), 75),
        (NoAnswer("x"), 75),
        (StoreCorrupt("x"), 65),
        (MonsalError("x"), 1),
        (RemoteFault("x", code=-32010, kind="StoreUnavailable"), 75),
        (RemoteFault("x", code=-32010, kind="UsageError"), 64),
        (RemoteFault("x", code=-32603, kind="ValueError"), 1),
        (RemoteFault("x", code=-32601), 1),
    ],
)
def test_errors_have_their_codes(error: MonsalError, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        (["show", "5"], ["show", "5"]),
        (["--dir", "d", "show", "5"], ["show", "--dir", "d", "5"]),
        (["--dir", "show", "--json"], ["--dir", "show", "--json"]),
        (["--json", "--", "show"], ["--json", "--", "show"]),
        ([], []),
    ],
)
def test_options_may_stand_before_the_command(given: list[str], ordered: list[str]) -> None:
    assert command_first(given, ["show", "list"]) == ordered


@pytest.mark.parametrize("group", ["dead", "dkim", "keys", "outbox", "rpc", "states", "store", "suppressed"])
def test_what_actions_do_is_said_in_whole_sentences(home: Path, invoke: Invoke, group: str) -> None:
    listed = invoke(group, "--help").stdout.partition("Commands:")[2]
    assert listed.rstrip().endswith(".")
    assert "..." not in listed


def test_without_keys_for_dkim_it_says_how_to_make_one(home: Path, invoke: Invoke) -> None:
    (home / "app.py").write_text("")
    said = invoke("dkim", "--dir", home)
    assert (said.exit_code, said.stdout) == (
        0,
        f"there are no keys; `monsal dkim new SELECTOR --dir {home}` makes one\n",
    )
