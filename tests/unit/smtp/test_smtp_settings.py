"""Limits that make no sense are refused at the start."""

from __future__ import annotations

import pytest

from monsal.errors import ConfigError
from monsal.smtp.settings import ServerSettings


def test_the_defaults_are_those_of_the_plan() -> None:
    settings = ServerSettings()

    assert settings.max_message_size == 25 * 1024 * 1024
    assert settings.max_recipients == 100


@pytest.mark.parametrize("hostname", ["", "two words", "a\r\nb", "ex\x00ample", "münchen.example", "x" * 256])
def test_a_hostname_is_one_word_of_ascii(hostname: str) -> None:
    with pytest.raises(ConfigError, match="hostname"):
        ServerSettings(hostname=hostname)


@pytest.mark.parametrize("name", [name for name in ServerSettings.__struct_fields__ if name.startswith("max_")])
def test_no_limit_is_zero(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        ServerSettings(**{name: 0})  # type: ignore[arg-type]  # every max_ is an int


def test_a_command_line_of_the_rfc_fits() -> None:
    with pytest.raises(ConfigError, match="512"):
        ServerSettings(max_command_line=511)
