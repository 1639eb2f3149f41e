"""Where the other side is: expressions and URLs become records, and records become text again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monsal.transport.address import (
    Address,
    Internal,
    Mux,
    Nowhere,
    Restart,
    Stdio,
    Tcp,
    TcpServer,
    Tls,
    Unix,
    UnixServer,
    display_address,
    parse,
)

SERVER, STDIO = TcpServer("", 8888), Stdio()


@pytest.mark.rule("rpc.R5")
@pytest.mark.rule("rpc.B14")
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp:example.com:8888", Tcp("example.com", 8888)),
        ("tcp:[::1]:80", Tcp("::1", 80)),
        ("tcp:[fe80::1%eth0]:80", Tcp("fe80::1%eth0", 80)),
        ("tcp://127.0.0.1:0", Tcp("127.0.0.1", 0)),
        ("tcp://[::1]:80", Tcp("::1", 80)),
        ("tcpserv::8888", TcpServer("", 8888)),
        ("tcpserv:[::]:8888", TcpServer("::", 8888)),
        ("tcps://mail.example.com:443", Tls("mail.example.com", 443)),
        ("tcps://[::1]:1?ca=a%20b.pem&cert=/c&key=k&name=me", Tls("::1", 1, "a b.pem", "/c", "k", "me")),
        ("unix:run/api.sock", Unix("run/api.sock")),
        ("unix:/run/100%25.sock", Unix("/run/100%25.sock")),
        ("unix://run/api.sock", Unix("run/api.sock")),
        ("unix:///run/a%20b", Unix("/run/a b")),
        ("unixserv:run/api.sock", UnixServer("run/api.sock")),
        ("stdio:", STDIO),
        ("null", Nowhere()),
        ("internal:", Internal("internal", "")),
        ("internal:home", Internal("home", "")),
        ("internal:home:alice", Internal("home", "alice")),
        ("internal::alice", Internal("internal", "alice")),
        ("mux:(tcpserv::8888)(stdio:)", Mux((SERVER, STDIO))),
        ("mux:[tcp:[::1]:80]<stdio:>{unix:a}", Mux((Tcp("::1", 80), STDIO, Unix("a")))),
        ("mux:(mux:(stdio:)(tcpserv::8888))", Mux((Mux((STDIO, SERVER)),))),
        ("restart:2.5:tcp:h:1", Restart(2.5, Tcp("h", 1))),
        ("restart::tcp:h:1", Restart(10.0, Tcp("h", 1))),
        ("restart:1:{mux:(stdio:)(tcpserv::8888)}", Restart(1.0, Mux((STDIO, SERVER)))),
        ("mux:(restart:3:tcp:h:1)(stdio:)", Mux((Restart(3.0, Tcp("h", 1)), STDIO))),
    ],
)
def test_a_text_is_read(text: str, address: Address) -> None:
    assert parse(text) == address


@pytest.mark.rule("rpc.B15")
@pytest.mark.parametrize(
    "text", ["", "carrier-pigeon:here", "tcp", "qtcp:h:1", "TCP:h:1", "http://h:1", "udp:9", "(stdio:)"]
)
def test_what_is_not_known_is_refused_and_told_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"begin with one of internal:, mux:, null, restart:, stdio:, tcp:"):
        parse(text)


@pytest.mark.rule("rpc.R5")
@pytest.mark.parametrize(
    "text",
    [
        "tcp:h",
        "tcp:h:",
        "tcp::80",
        "tcp:h:65536",
        "tcp:h:-1",
        "tcp:h:८",
        "tcp:h:000080",
        "tcp:::1:80",
        "tcp:[h]:80",
        "tcp:[::1]80",
        "tcp:[::1:80",
        "tcp:a b:80",
        "tcp:user@h:80",
        "tcp://h:80/",
        "tcp://:80",
        "tcpserv:8888",
        "tcps://h:1?password=x",
        "tcps://h:1?ca",
        "tcps://h:1?ca=a&ca=b",
        "tcps://h:1?ca=%00",
        "unix:",
        "unix://",
        "unix:a\0b",
        "unix://a%00b",
        "stdio:x",
        "null:x",
        "internal:a:b:c",
        "internal:(a)",
        "mux:",
        "mux:stdio:",
        "mux:(stdio:",
        "mux:(stdio:)stdio:",
        "mux:()",
        "mux:(stdio:]",
        "restart:10",
        "restart:0:stdio:",
        "restart:-1:stdio:",
        "restart:nan:stdio:",
        "restart:inf:stdio:",
        "restart:x:stdio:",
        "restart:1:(stdio:)(stdio:)",
        "mux:(" * 40 + "stdio:" + ")" * 40,
        "restart:1:" * 5000 + "stdio:",
    ],
)
def test_what_is_malformed_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


paths = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)
hosts = st.sampled_from(["localhost", "127.0.0.1", "::1", "fe80::1%eth0", "xn--bcher-kva.example"])
ports = st.integers(0, 65535)
names = st.text(st.characters(categories=["L", "N", "P"], exclude_characters="()[]{}<>:"))
simple: st.SearchStrategy[Address] = st.one_of(
    st.builds(Tcp, hosts, ports),
    st.builds(TcpServer, st.one_of(st.just(""), hosts), ports),
    st.builds(Tls, hosts, ports, *[st.one_of(st.just(""), paths)] * 4),
    st.builds(Unix, paths),
    st.builds(UnixServer, paths),
    st.builds(Internal, names.filter(bool), names),
    st.just(Stdio()),
    st.just(Nowhere()),
)
addresses = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(Mux, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Restart, st.floats(0.0, 86400.0, exclude_min=True), inner),
    ),
    max_leaves=5,
)


@given(addresses)
def test_the_text_of_an_address_reads_back_as_the_same(address: Address) -> None:
    assert parse(str(address)) == address


@given(st.one_of(st.text(), st.text("tcpserv:unixmux()[]{}<>/?&=%0123.restart10")))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse(text)
    except ValueError:
        return
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("127.0.0.1", 25), "127.0.0.1:25"),
        (("::1", 25, 0, 0), "[::1]:25"),
        ("run/lmtp.sock", "run/lmtp.sock"),
        (b"/run/\xff.sock", "/run/\udcff.sock"),
    ],
)
def test_addresses_for_people(address: object, shown: str) -> None:
    assert display_address(address) == shown
