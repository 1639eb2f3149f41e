"""Measuring monsal, and putting it under load. Start reading at `load.py`, which is a program of its own."""
