"""The modules that applications of the ancestor import, under our names; `monsal.compat.install` gives them theirs.

May import everything below the faces. Everything here was written from contracts/routing.md, contracts/state.md and
the ancestor's own tests. Start reading at `routing`, then `mail` and `server`; `encoding` is what `mail` stands on.
"""
