"""TLS, with certificates made on the spot: who is verified, who has to show one, and who is let go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificate
from link_world import SERVER, Run, until

from monsal.errors import ConfigError, RemoteError
from monsal.transport import AcceptSetup, connect, listen
from monsal.transport.address import Tls


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("tls")
    authority = make_certificate(directory, "authority")
    other = make_certificate(directory, "other")
    return {
        "authority": authority,
        "server": make_certificate(directory, "server", signer=authority, hosts=("127.0.0.1",)),
        "elsewhere": make_certificate(directory, "elsewhere", signer=authority, hosts=("127.0.0.2",)),
        "alice": make_certificate(directory, "alice", signer=authority),
        "mallory": make_certificate(directory, "mallory", signer=other),
    }


@pytest.mark.rule("rpc.B6")
@pytest.mark.rule("rpc.B14")
def test_the_server_is_verified(run: Run, files: dict[str, Any]) -> None:
    async def scene() -> None:
        server, ca = files["server"], files["authority"].cert
        acceptor = await listen(f"tcps://127.0.0.1:0?cert={server.cert}&key={server.key}", SERVER)
        where = acceptor.addresses[0]
        link = await connect(f"tcps://{where}?ca={ca}")
        assert await link.call("echo", {"a": "x" * 100_000}) == {"a": "x" * 100_000}
        assert link.certificate is not None
        with pytest.raises(RemoteError, match="cannot be trusted"):
            await connect(f"tcps://{where}")
        with pytest.raises(RemoteError, match="cannot be trusted"):
            await connect(f"tcps://{where}?ca={ca}&name=example.com")
        assert await link.call("echo", {}) == {}
        link.close()
        await link.wait_closed()
        await acceptor.close()

    run(scene())


@pytest.mark.rule("rpc.B6")
@pytest.mark.rule("rpc.B14")
def test_a_certificate_for_another_host_is_not_trusted_unless_named(run: Run, files: dict[str, Any]) -> None:
    async def scene() -> None:
        server, ca = files["elsewhere"], files["authority"].cert
        acceptor = await listen(f"tcps://127.0.0.1:0?cert={server.cert}&key={server.key}", SERVER)
        where = acceptor.addresses[0]
        with pytest.raises(RemoteError, match="cannot be trusted"):
            await connect(f"tcps://{where}?ca={ca}")
        link = await connect(f"tcps://{where}?ca={ca}&name=127.0.0.2")
        assert await link.call("echo", {}) == {}
        await acceptor.close()

    run(scene())


@pytest.mark.rule("rpc.B6")
@pytest.mark.rule("rpc.B14")
def test_clients_may_have_to_show_a_certificate(run: Run, files: dict[str, Any]) -> None:
    async def scene() -> None:
        server, ca, alice, mallory = (files[name] for name in ("server", "authority", "alice", "mallory"))
        found = []
        acceptor = await listen(
            f"tcps://127.0.0.1:0?cert={server.cert}&key={server.key}&ca={ca.cert}", SERVER, on_link=found.append
        )
        where = f"tcps://{acceptor.addresses[0]}?ca={ca.cert}"
        link = await connect(f"{where}&cert={alice.cert}&key={alice.key}")
        assert await link.call("echo", {}) == {}
        assert found[0].certificate["subject"] == ((("commonName", "alice"),),)
        for rest in ("", f"&cert={mallory.cert}&key={mallory.key}"):
            # In TLS 1.3 a client learns only from the next record that it is not wanted.
            with pytest.raises(RemoteError):
                await (await connect(where + rest)).call("echo")
        assert len(found) == 1
        assert await link.call("echo", {}) == {}
        await acceptor.close()

    run(scene())


@pytest.mark.rule("rpc.B6")
@pytest.mark.rule("rpc.B14")
def test_who_speaks_no_tls_is_let_go(run: Run, files: dict[str, Any]) -> None:
    async def scene() -> None:
        server, ca = files["server"], files["authority"].cert
        accept = AcceptSetup(handshake=1.5)
        acceptor = await listen(f"tcps://127.0.0.1:0?cert={server.cert}&key={server.key}", SERVER, accept=accept)
        host, port = acceptor.addresses[0].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        silent, other = await asyncio.open_connection(host, int(port))
        writer.write(b'{"jsonrpc":"2.0","method":"echo","id":1}\n')
        await reader.read()
        await silent.read()
        link = await connect(f"tcps://{acceptor.addresses[0]}?ca={ca}")
        assert await link.call("echo", {}) == {}
        await until(lambda: acceptor.statistics().refused == 2)
        for each in (writer, other):
            each.close()
        await acceptor.close()

    run(scene())


@pytest.mark.rule("rpc.B6")
@pytest.mark.rule("rpc.B14")
def test_files_that_are_none(run: Run, files: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    missing, empty, server = tmp_path / "no.pem", tmp_path / "empty.pem", files["server"]
    for address in (
        Tls("127.0.0.1", 0),
        Tls("127.0.0.1", 0, cert=str(missing)),
        Tls("127.0.0.1", 0, cert=str(empty)),
        Tls("127.0.0.1", 0, cert=server.cert, key=files["alice"].key),
        Tls("127.0.0.1", 0, cert=server.cert, key=server.key, ca=str(missing)),
        Tls("127.0.0.1", 0, cert=server.cert, key=server.key, ca=str(empty)),
    ):
        with pytest.raises(ConfigError):
            run(listen(address, SERVER))
    with pytest.raises(ConfigError):
        run(connect(Tls("127.0.0.1", 1, ca=str(missing))))
    with pytest.raises(ConfigError):
        run(connect(Tls("127.0.0.1", 1, cert=str(empty))))


def test_a_handshake_that_does_not_end_holds_up_no_end(run: Run, files: dict[str, Any]) -> None:
    async def scene() -> None:
        server, ca = files["server"], files["authority"].cert
        acceptor = await listen(f"tcps://127.0.0.1:0?cert={server.cert}&key={server.key}", SERVER)
        host, port = acceptor.addresses[0].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        link = await connect(f"tcps://{acceptor.addresses[0]}?ca={ca}")
        assert await link.call("echo", {}) == {}
        await acceptor.close(0.05)
        await link.wait_closed()
        assert await reader.read() == b""
        writer.close()

    run(scene())
