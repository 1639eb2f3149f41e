"""The file of users, and the check of logins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monsal.errors import ConfigError, LoginUnavailable
from monsal.ingress import Identity, Logins, Users, user_line
from monsal.smtp.events import Login


@pytest.fixture(scope="module")
def line() -> str:
    return user_line("Ann@example.com", "sécret", ("orders@example.com", "@Example.org"))


def test_who_is_there(line: str) -> None:
    users = Users(f"# people\n\n{line}\n")

    assert users.knows("ann@EXAMPLE.com")
    assert not users.knows("bob")
    expected = Identity("Ann@example.com", ("orders@example.com", "@example.org"))
    assert users.check("ann@example.com", "sécret") == expected
    assert users.check("ann@example.com", "se\u0301cret") == expected
    assert users.check("ann@example.com", "secret") is None
    assert users.check("bob", "sécret") is None
    assert users.check("", "") is None


def test_a_line_tells_no_password_and_is_another_one_each_time(line: str) -> None:
    assert "cret" not in line.partition("$")[2]
    assert user_line("ann", "x") != user_line("ann", "x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ann:secret", "line 1: expected NAME:scrypt"),
        ("#\nann", "line 2: expected NAME:scrypt"),
        ("ann:scrypt$1048576$8$1$AAAA$AAAA", "more than 128 MB"),
        ("ann:scrypt$1000$8$1$AAAA$AAAA", "cannot be"),
        ("ann:scrypt$16384$8$1$AAA$AAAA", "no base64"),
        ("ann:scrypt$16384$8$1$AAAA$AAAA:bob", "behind the hash"),
        ("ann:scrypt$16384$8$1$AAAA$AAAA\nANN:scrypt$16384$8$1$AAAA$AAAA", "line 2: a user of that name"),
    ],
)
def test_what_is_wrong_is_told_by_its_line_and_not_repeated(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        Users(text)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="auth_users"):
        Users.read(tmp_path / "users")


@pytest.mark.parametrize(
    ("name", "password", "may_write"),
    [
        ("two words", "x", ()),
        ("a:b", "x", ()),
        ("#a", "x", ()),
        ("a", "", ()),
        ("a", "x" * 256, ()),
        ("a", "x", ("b",)),
    ],
)
def test_what_cannot_be_a_line(name: str, password: str, may_write: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        user_line(name, password, may_write)


class Office:
    """What a Logins rests on: a clock, and an application that is asked."""

    def __init__(self, line: str = "", said: Any = None) -> None:
        self.now = 100.0
        self.said = said
        self.asked: list[tuple[str, str, str]] = []
        self.logins = Logins(Users(line), run=self.run, ask=self.ask, now=lambda: self.now)

    async def run(self, function: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(function)

    async def ask(self, user: str, password: str, peer: str) -> Any:
        self.asked.append((user, password, peer))
        return self.said

    def check(self, user: str, password: str = "guess", peer: str | None = "192.0.2.1") -> Identity | None:
        return asyncio.run(self.logins.check(Login("PLAIN", user, password), peer))


@pytest.mark.parametrize(
    ("said", "identity"),
    [
        (True, Identity("bob")),
        (False, None),
        (None, None),
        ("Orders@example.com", Identity("bob", ("orders@example.com",))),
        (["@example.org"], Identity("bob", ("@example.org",))),
        ((), Identity("bob")),
    ],
)
def test_the_application_is_asked_about_whom_the_file_does_not_know(
    line: str, said: Any, identity: Identity | None
) -> None:
    office = Office(line, said)

    assert office.check("bob", "pw") == identity
    assert office.asked == [("bob", "pw", "192.0.2.1")]
    assert office.check("ann@example.com") is None
    assert office.check("ann@example.com", "sécret") is not None
    assert len(office.asked) == 1


def test_an_answer_that_is_none_is_no_yes() -> None:
    with pytest.raises(LoginUnavailable, match="gave a int"):
        Office(said=1).check("bob")


def test_who_guesses_is_not_heard_for_a_while() -> None:
    office = Office(said=False)
    for _ in range(20):
        assert office.check("bob") is None
    with pytest.raises(LoginUnavailable, match="too many wrong logins"):
        office.check("bob")
    assert office.check("bob", peer="192.0.2.2") is None
    for _ in range(30):
        assert office.check("bob", peer=None) is None
    office.now += 61
    assert office.check("bob") is None
