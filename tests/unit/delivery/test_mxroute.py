"""Where mail for a domain goes, as the DNS has it."""

from __future__ import annotations

from typing import Any

import pytest
from dnsserver import SERVFAIL, SILENCE, name_server

from monsal.delivery.mxroute import MxRoute, domain_of, is_public
from monsal.delivery.names import DnsNames
from monsal.delivery.route import NoRoute
from monsal.smtp.mxurl import MxUrl

A1, A2, A3 = "198.51.101.1", "198.51.101.2", "198.51.101.3"


async def places(table: Any, domain: str = "x.example", *, private: bool = False) -> list[str]:
    """Host and address of the targets."""
    async with name_server(table) as server:
        url = MxUrl(private=private, nameserver="127.0.0.1", nameserver_port=server.port)
        # Where no answer comes the wait is short; where one does it is not what decides.
        patience = 0.3 if SILENCE in str(table) else 60.0
        found = await MxRoute(domain, url, DnsNames(url, patience=patience), name="me.example").targets()
    assert {(each.endpoint.port, each.endpoint.tls) for each in found} == {(25, "opportunistic")}
    return [f"{each.endpoint.host} {each.address}" for each in found]


async def no_place(table: Any, domain: str = "x.example", **options: Any) -> tuple[str, bool]:
    with pytest.raises(NoRoute) as caught:
        await places(table, domain, **options)
    return caught.value.reason, caught.value.final


def host(*addresses: str) -> dict[str, list[str]]:
    return {
        "A": [each for each in addresses if ":" not in each],
        "AAAA": [each for each in addresses if ":" in each],
    }


async def test_by_preference() -> None:
    table = {
        "x.example": {"MX": ["20 b.example.", "10 a.example.", "30 c.example."]},
        "a.example": host(A1),
        "b.example": host(A2, "2a00:1450::2"),
        "c.example": host(A3),
    }
    wanted = [f"a.example {A1}", f"b.example {A2}", "b.example 2a00:1450::2", f"c.example {A3}"]
    assert await places(table) == wanted


async def test_equals_are_taken_at_random() -> None:
    table = {"x.example": {"MX": ["10 a.example.", "10 b.example."]}, "a.example": host(A1), "b.example": host(A2)}
    async with name_server(table) as server:
        url = MxUrl(nameserver="127.0.0.1", nameserver_port=server.port)
        route = MxRoute("x.example", url, DnsNames(url))
        await route.targets()
        server.table.clear()  # answers are kept: from now on others would come
        firsts = {(await route.targets())[0].address for _ in range(200)}  # one in 2^199 sees only one
        assert firsts == {A1, A2}


async def test_a_domain_without_mx_is_its_own_server() -> None:
    assert await places({"x.example": host(A1)}) == [f"x.example {A1}"]
    assert await places({"x.example": host("2a00:1450::2")}) == ["x.example 2a00:1450::2"]


async def test_what_the_dns_is_sure_of_is_final() -> None:
    assert await no_place({}) == ("5.1.2 there is no domain x.example", True)
    assert await no_place({"x.example": {"MX": ["0 ."]}}) == ("5.1.10 x.example takes no mail (null MX)", True)
    assert await no_place({"x.example": {}}) == ("5.4.4 the mail servers of x.example have no address: x.example", True)
    missing = {"x.example": {"MX": ["10 gone.example."]}}
    assert await no_place(missing) == ("5.4.4 the mail servers of x.example have no address: gone.example", True)


@pytest.mark.parametrize("trouble", [SERVFAIL, SILENCE])
async def test_what_it_does_not_know_now_is_not(trouble: str) -> None:
    reason, final = await no_place({"x.example": {"MX": trouble}})
    assert (reason.partition(" ")[0], final) == ("4.4.3", False)


async def test_one_server_that_is_found_is_enough() -> None:
    table: dict[str, Any] = {
        "x.example": {"MX": ["10 a.example.", "20 b.example."]},
        "a.example": {"A": SERVFAIL, "AAAA": []},
    }
    reason, final = await no_place(table)  # b.example is not there, but a.example may be
    assert (reason.partition(" ")[0], final) == ("4.4.3", False)
    table["b.example"] = host(A2)
    assert await places(table) == [f"b.example {A2}"]
    table["a.example"]["AAAA"] = ["2a00:1450::2"]
    assert await places(table) == ["a.example 2a00:1450::2", f"b.example {A2}"]


async def test_strangers_do_not_lead_us_home() -> None:
    inside = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "0.0.0.0", "::1", "fe80::1", "fd00::1"]
    for address in inside:
        reason, final = await no_place({"x.example": host(address)})
        assert (reason, final) == (f"5.4.4 the mail servers of x.example have no public address: {address}", True)
        assert await places({"x.example": host(address)}, private=True) == [f"x.example {address}"]
    table = {"x.example": {"MX": ["10 a.example."]}, "a.example": host("127.0.0.1", A1)}
    assert await places(table) == [f"a.example {A1}"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2a00:1450::1", True),
        ("::ffff:8.8.8.8", True),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("64:ff9b:1::808:808", False),
        ("2002:7f00:1::1", False),
        ("::127.0.0.1", False),
        ("fec0::1", False),
        ("ff0e::1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("100.64.0.1", False),
        ("198.18.0.1", False),
    ],
)
def test_what_is_public(address: str, public: bool) -> None:
    assert is_public(address) is public


async def test_mail_does_not_come_back_to_us() -> None:
    """Servers that are no more preferred than we are would give it to us (RFC 5321, section 5.1)."""
    table: dict[str, Any] = {
        "x.example": {"MX": ["10 a.example.", "20 me.example.", "20 b.example.", "30 c.example."]},
        **{name: host(address) for name, address in (("a.example", A1), ("me.example", A2), ("b.example", A3))},
        "c.example": host(A3),
    }
    assert await places(table) == [f"a.example {A1}"]
    table["x.example"] = {"MX": ["10 me.example.", "20 b.example."]}
    assert await no_place(table) == ("5.4.6 mail for x.example would come back to this server", True)


async def test_our_own_addresses_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    # This machine surely has 127.0.0.1, and perhaps no other; so it has to pass for a public one here.
    monkeypatch.setattr("monsal.delivery.mxroute.is_public", lambda _address: True)
    table = {"x.example": {"MX": ["10 a.example."]}, "a.example": host("127.0.0.1")}
    assert await no_place(table) == ("5.4.6 mail for x.example would come back to this server", True)
    assert await no_place({}, "[127.0.0.1]") == ("5.4.4 127.0.0.1 is no public address of another machine", True)


async def test_addresses_in_place_of_a_domain() -> None:
    assert await places({}, f"[{A1}]") == [f"{A1} {A1}"]
    assert await places({}, "[ipv6:2a00:1450::1]") == ["2a00:1450::1 2a00:1450::1"]
    assert (await no_place({}, "[10.0.0.1]"))[1]
    assert await places({}, "[10.0.0.1]", private=True) == ["10.0.0.1 10.0.0.1"]
    assert await no_place({}, "[1.2.3]") == ("5.1.2 '[1.2.3]' is no address", True)


@pytest.mark.parametrize("domain", ["", "a..example", "x" * 64 + ".example", "x.example\r\n", "a b.example", "é\ud800"])
async def test_what_is_no_domain(domain: str) -> None:
    assert (await no_place({}, domain))[0].startswith("5.1.2")


async def test_only_so_many_are_tried() -> None:
    table: dict[str, Any] = {"x.example": {"MX": [f"{number} h{number}.example." for number in range(1, 31)]}}
    table |= {f"h{number}.example": host(f"198.51.101.{number}") for number in range(1, 31)}
    assert await places(table) == [f"h{number}.example 198.51.101.{number}" for number in range(1, 6)]


def test_the_domain_of_an_address() -> None:
    assert domain_of("Ann@X.Example.") == "x.example"
    assert domain_of("ann@bücher.example") == "xn--bcher-kva.example"
    assert domain_of('"a@b"@x.example') == "x.example"
    assert domain_of("ann@[IPv6:2A00::1]") == "[ipv6:2a00::1]"
    assert domain_of("ann") == "ann"
