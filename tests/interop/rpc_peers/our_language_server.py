"""A program of ours as an editor starts it: Content-Length frames on standard input and output, until that ends."""

import asyncio

from monsal.rpc import RemoteAPI, incoming, outgoing


class Language(RemoteAPI):
    @incoming(allow_positional_args=True)
    async def add(self, sender: str, a: int, b: int) -> int: ...

    @incoming
    async def wait(self, sender: str) -> None: ...

    @incoming(has_reply=True)
    async def ask_back(self, sender: str): ...

    @outgoing
    def note(self, receivers: list[str] | None, text: str) -> None: ...

    @outgoing(allow_positional_args=True)
    def named(self, receivers: list[str] | None, a: int, b: int) -> dict[str, int]: ...


async def main() -> None:
    language = Language()

    @language.add.handler
    async def add(sender: str, a: int, b: int) -> int:
        return a + b

    @language.ask_back.handler
    async def ask_back(sender: str) -> dict[str, int]:
        language.notify.note(text="one moment")
        found: dict[str, int] = await language.call.named(a=1, b=2)
        return found

    link = await language.connect("stdio:", codec="lsp:")
    await link.wait_closed()


asyncio.run(main())
