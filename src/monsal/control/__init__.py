"""How a running server is looked at and steered: small objects, mounted by prefix on one unix socket.

May import: `monsal.wire`, `monsal.store.contract` and the ground floor. The client is light, because every command of
the shell starts with it; nothing of asyncio is imported unless the server is.
Start reading at `server.py`; `api.py` has what can be asked, `client.py` asks it, `path.py` knows about socket files.
"""
