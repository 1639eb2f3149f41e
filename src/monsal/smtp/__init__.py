"""SMTP and LMTP without sockets: bytes in, events out; decisions in, bytes out.

May import: `monsal.errors`, `monsal.address` and msgspec. No socket, clock, randomness or await.
Start reading at `server.py` (who receives) or `client.py` (who sends); both speak in `replies.Reply`.
"""
