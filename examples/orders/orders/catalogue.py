"""What there is to buy. A real shop would ask a database, which is why `find` is a coroutine."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    name: str
    price: str


_ITEMS = [Item("tea", "4.50"), Item("coffee", "5.20"), Item("chocolate", "3.80")]


def names():
    return [item.name for item in _ITEMS]


async def find(text):
    """The first item that the text names, or None."""
    words = re.findall(r"\w+", text.lower())
    return next((item for item in _ITEMS if item.name in words), None)
