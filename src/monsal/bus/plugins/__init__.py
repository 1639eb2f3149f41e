"""What can be plugged into a bus: each plugin subscribes its own methods and knows nothing of the others.

Standard library only. Start reading at `simple.py`, the base; `signals.py` turns signals into calls of the bus.
"""

from monsal.bus.plugins.signals import SignalHandler
from monsal.bus.plugins.simple import SimplePlugin

__all__ = ["SignalHandler", "SimplePlugin"]
