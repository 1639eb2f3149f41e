"""Ctrl-C while code is loaded.

Python raises KeyboardInterrupt wherever it is. Within an import that ends in a traceback, or is even taken for another
error: `__set_name__` makes a RuntimeError of it, the compiler a SyntaxError. Importing does nothing that could be left
half done (P9); so meanwhile the signal ends the process as it ends any program, without a word.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["loading"]


@contextmanager
def loading() -> Iterator[None]:
    """Let SIGINT end the process at once while this is entered, unless it is ignored or somebody handles it."""
    is_python_s = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_python_s or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
