"""Stands in for `magicbus.base`: channels without the life of a process. A bus of ours takes no graph of states."""

from __future__ import annotations

from monsal.bus import ChannelFailures
from monsal.bus import Hub as Bus

__all__ = ["Bus", "ChannelFailures"]
