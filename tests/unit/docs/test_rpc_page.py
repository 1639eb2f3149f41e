"""docs/rpc.md: its examples run as they are there, its tables name all that there is, with the numbers of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from page_examples import DOCS, examples, run_example

from monsal import rpc
from monsal.errors import RemoteError
from monsal.rpc import AppError, Options, Promise, RemoteFault
from monsal.transport import parse, wiring
from monsal.wire import PeerLimits

TEXT = (DOCS / "rpc.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("code", "output"), list(examples(TEXT)))
def test_each_example_runs_as_it_is_written_there(code: str, output: str | None, tmp_path: Path) -> None:
    assert output is not None, "each example of this page prints something"
    run_example(code, output, tmp_path)


@pytest.mark.rule("rpc.B8", "rpc.B9")
def test_the_codes_are_those_of_the_code() -> None:
    told = set()
    for names, codes in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([-\d, ]*) ?\|", TEXT, re.MULTILINE):
        found = [name.strip("`") for name in names.split(", ")]
        if codes.strip().startswith("-"):
            assert [getattr(rpc, name).code for name in found] == [int(code) for code in codes.split(", ")]
        told.update(found)
    errors = {getattr(rpc, name) for name in rpc.__all__ if isinstance(getattr(rpc, name), type)}
    raised = {one.__name__ for one in errors if issubclass(one, RemoteError) and not issubclass(one, AppError)}
    assert raised - {RemoteError.__name__, RemoteFault.__name__} <= told


@pytest.mark.rule("rpc.B7")
def test_the_limits_are_those_of_the_code() -> None:
    units = {"": 1, "s": 1, "MiB": 1024 * 1024}
    told = {}
    for names, values in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (\d[^|]*) \|", TEXT, re.MULTILINE):
        for name, value in zip(names.split(", "), values.split(", "), strict=True):
            number, _, unit = value.strip().partition(" ")
            told[name.strip("`")] = int(number) * units[unit]
    assert told == {name: getattr(PeerLimits(), name) for name in PeerLimits.__struct_fields__}


@pytest.mark.parametrize(
    "names", [Options.__struct_fields__, [n for n in vars(Promise) if not n.startswith(("_", "set_"))]]
)
def test_each_option_and_each_part_of_a_promise_is_there(names: list[str]) -> None:
    for name in names:
        assert re.search(rf"`[^`\n]*\b{name}\b", TEXT), f"docs/rpc.md does not tell of {name}"


@pytest.mark.rule("rpc.B15")
@pytest.mark.parametrize("known", [parse, wiring])
def test_each_expression_is_there(known: object) -> None:
    with pytest.raises(ValueError, match=r"is no (address|codec)") as caught:
        known("nonsense:")  # type: ignore[operator] - one of the two above
    schemes = re.findall(r"\w+:(?://)?", str(caught.value).partition(" is no ")[2].partition(": ")[2])
    assert schemes
    for scheme in schemes:
        assert f"`{scheme}" in TEXT, f"docs/rpc.md does not tell of {scheme}"
