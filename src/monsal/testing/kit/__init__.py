"""The single checks behind `monsal.testing.checks`: one function for each promise of a store, readable alone.

`lab` sets a store up and speaks to it in short words; start there. Each other module has the checks of one subject.
"""
