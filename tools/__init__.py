"""Tools for those who build monsal: `python -m tools.rules` and `python -m tools.docs`."""
