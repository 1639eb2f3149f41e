"""The listening sockets of a server: bound before anything else, given by systemd, or kept from the image before.

    doors = Doors(settings.ingress, directory, given=listen_fds())
    doors.open()                               # binds what was not given; needs root for ports below 1024
    for door in doors:
        door.kind(door.take(), intake)         # an ingress on duplicates: it closes them when it stops
    doors.close()                              # from now on nobody can connect; or doors.kept() for a successor

Nobody can connect to a door before an ingress took it for the first time; afterwards the kernel queues who does while
no ingress has it, so nobody is refused during a restart.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monsal.errors import ConfigError
from monsal.forks import close_in_children
from monsal.ingress.listen import Bind, listening_sockets, parse_bind
from monsal.transport.address import display_address
from monsal.transport.unix import remove_socket_file

if TYPE_CHECKING:
    from monsal.ingress.smtp import SmtpIngress

__all__ = ["Door", "Doors", "bind_of"]

#: Names of kept sockets begin so; those of systemd's `FileDescriptorName=` do not.
_KEPT = "monsal-"


class Door:
    """One address that is listened on. `url` is the setting that asked for it, `kind` what serves it if it is for mail.

    With `encrypted` a connection begins with TLS; with `is_http` it is no door for mail.
    """

    def __init__(self, url: str, sockets: Sequence[socket.socket], *, is_ours: bool, inode: int = 0) -> None:
        self.url = url
        self.sockets = list(sockets)
        self.is_lmtp = url.startswith("lmtp:")
        self.encrypted = url.startswith(("smtps:", "https:"))
        self.is_http = url.startswith(("http:", "https:"))
        self._files: list[tuple[str, int]] = []
        for each in self.sockets:
            close_in_children(each, socket.socket.detach)
            if each.family == socket.AF_UNIX and is_ours:
                path = os.fsdecode(each.getsockname())
                # Of one that is kept the number of its file is known; what is at that path now may be another's.
                self._files.append((path, inode or os.lstat(path).st_ino))

    @property
    def kind(self) -> type[SmtpIngress]:
        """What serves it."""
        # Not before: a supervisor only keeps the doors for those who serve.
        from monsal.ingress.smtp import LmtpIngress, SmtpIngress

        return LmtpIngress if self.is_lmtp else SmtpIngress

    @property
    def is_there(self) -> bool:
        """Whether the files of its unix sockets are still in their places."""
        return all(_inode_of(path) == inode for path, inode in self._files)

    @property
    def addresses(self) -> list[str]:
        """Where it can be reached, as people write it."""
        return [display_address(each.getsockname()) for each in self.sockets]

    @property
    def protocol(self) -> str:
        """Under which name its addresses are told: `smtp`, `smtps`, `lmtp` or `http`."""
        if self.is_http:
            return "http"
        return "lmtp" if self.is_lmtp else "smtps" if self.encrypted else "smtp"

    @property
    def name(self) -> str:
        """What its sockets are called when they are handed on: after the setting, and the file if they have one."""
        return f"{_name_of(self.url)}-{self._files[0][1] if self._files else 0}"

    def take(self) -> list[socket.socket]:
        """Duplicates for an ingress; the door stays open when that closes them."""
        taken = [each.dup() for each in self.sockets]
        for each in taken:
            close_in_children(each, socket.socket.detach)
        return taken

    def close(self) -> None:
        """Listen no more, and remove the files of unix sockets that were made here."""
        for each in self.sockets:
            each.close()
        self.sockets = []
        for path, inode in self._files:
            remove_socket_file(path, inode)
        self._files = []


class Doors:
    """All doors of a server. `given` are inherited listening sockets by name, `urls` the settings `ingress` and `http`.

    Sockets with the names of `kept()` are those of the settings they were made for. What systemd gives is matched by
    its address; one that no setting names is a door of its own kind (LMTP or HTTP if its name begins so, else SMTP),
    and then the settings of that kind are not listened on: who activates by sockets says there where they are.
    """

    def __init__(self, urls: Sequence[str], directory: Path, given: Mapping[str, Sequence[socket.socket]]) -> None:
        # A maildir has no socket; who serves the doors reads it beside them.
        self._urls = [_below(url, directory) for url in urls if not url.startswith("maildir:")]
        self._given = dict(given)
        self._foreign: set[str] = set()
        self._doors: list[Door] = []

    def __iter__(self) -> Iterator[Door]:
        return iter(self._doors)

    @property
    def sharing(self) -> int:
        """Among how many the files of the process are shared: each door for mail, and those for HTTP together."""
        mail = sum(not door.is_http for door in self._doors)
        return mail + any(door.is_http for door in self._doors)

    def open(self, *, ports_only: bool = False) -> None:
        """Take what was given and bind the rest; with `ports_only` no socket files, which another call makes.

        Raises OSError naming the address; then nothing is left open.
        """
        try:
            self._foreign |= self._take_given()
            for url in self._urls:
                there = any(door.url == url for door in self._doors) or _scheme(url) in self._foreign
                if not there and not (ports_only and bind_of(url).path):
                    self._doors.append(Door(url, _bound(url), is_ours=True))
        except BaseException:
            self.close()
            raise

    @classmethod
    def adopted(cls, given: Mapping[str, Sequence[socket.socket]]) -> Doors:
        """The doors of another process, by their addresses; that one bound them, and has their files."""
        doors = cls(tuple(given), Path(), {})
        doors._doors = [Door(url, sockets, is_ours=False) for url, sockets in given.items()]
        return doors

    def _take_given(self) -> set[str]:
        """Make doors of the given sockets; the schemes for which systemd has named other addresses than we."""
        foreign = set()
        given, self._given = self._given, {}
        names = {_name_of(url): url for url in self._urls}
        for name, sockets in given.items():
            for each in sockets:
                _check(name, each)
            if name.startswith(_KEPT):
                name, _, inode = name.rpartition("-")
                door = Door(names.get(name, ""), sockets, is_ours=True, inode=int(inode))
                if name in names and door.is_there:
                    self._doors.append(door)
                else:  # the setting was changed meanwhile, or somebody removed the file: nobody can come by it
                    door.close()
                continue
            for each in sockets:
                url = self._asked_for(each)
                if url is None:
                    scheme = next((each for each in ("lmtp", "https", "http") if name.startswith(each)), "smtp")
                    address = display_address(each.getsockname())
                    url = f"{scheme}:{address}" if each.family == socket.AF_UNIX else f"{scheme}://{address}"
                    foreign.add(scheme)
                self._doors.append(Door(url, [each], is_ours=False))
        return foreign

    def _asked_for(self, given: socket.socket) -> str | None:
        """The setting that names the address of a given socket."""
        return next((url for url in self._urls if _is_at(given, bind_of(url))), None)

    def kept(self) -> dict[str, list[socket.socket]]:
        """All sockets by name, for the image of the program that comes after this one."""
        return {door.name: list(door.sockets) for door in self._doors}

    def leave(self) -> None:
        """Close our descriptors and nothing else: somebody else listens there, and keeps the files."""
        for door in self._doors:
            for each in door.sockets:
                each.close()
        self._doors = []

    def close(self) -> None:
        """Close every door."""
        for door in self._doors:
            door.close()


def _inode_of(path: str) -> int:
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return 0


def _scheme(url: str) -> str:
    return url.partition(":")[0]


def _name_of(url: str) -> str:
    return _KEPT + hashlib.sha256(url.encode()).hexdigest()[:16]


def bind_of(url: str) -> Bind:
    """Where a door is, whatever is spoken there. Raises ConfigError."""
    # `parse_bind` is about ways in for mail, of which HTTP is none.
    scheme, _, rest = url.partition(":")
    return parse_bind(f"unix:{rest}" if scheme in ("http", "https") else url)


def _bound(url: str) -> list[socket.socket]:
    try:
        return listening_sockets(bind_of(url))
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {url}: {error.strerror or error}") from error


def _is_at(given: socket.socket, bind: Bind) -> bool:
    if given.family == socket.AF_UNIX:
        return bool(bind.path) and os.path.realpath(os.fsdecode(given.getsockname())) == os.path.realpath(bind.path)
    return not bind.path and given.getsockname()[:2] == (bind.host, bind.port)


def _check(name: str, given: socket.socket) -> None:
    """Raises ConfigError for a socket on which no mail can come in."""
    stream = given.type == socket.SOCK_STREAM and given.family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
    if not stream or not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ConfigError(
            f"the inherited socket {name!r} is no listening stream socket (systemd.socket: ListenStream=)"
        )
    given.setblocking(False)
    if given.family != socket.AF_UNIX:
        given.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _below(url: str, directory: Path) -> str:
    """An ingress address whose path, if it is a relative one, lies below the application's directory."""
    scheme, _, rest = url.partition(":")
    if "/" not in rest or rest.startswith("/"):
        return url
    return f"{scheme}:{directory / rest}"
