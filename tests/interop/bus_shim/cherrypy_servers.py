"""Stands in for `cherrypy.process.servers`: the adapter of any HTTP server, from monsal.bus."""

from __future__ import annotations

from monsal.bus import ServerAdapter

__all__ = ["ServerAdapter"]
