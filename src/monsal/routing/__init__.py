"""Routing: from the address of a message and the state of its conversation to a function.

May import the standard library, msgspec and the ground floor (errors, address). Pure: no socket, clock, randomness or
await; a "message" here is anything with a `sender` and a `recipient`.

Start reading at `marks` (what handler modules say), then `router` (load, match), `dispatch` (which handler is next);
below them `pattern` (one format), `capability` (signed values in addresses), `index` (many formats), `table` (what is
loaded), `build` and `collect` (how it gets there), `screens` and `screening` (who is asked before mail is taken),
`regex` and `safety` (what an expression matches, and how fast), `machine` and `check` (what is odd about it).
"""

from monsal.routing.build import build_table
from monsal.routing.capability import MAX_TTL, SEALED, Capability, Opened, days, hours, mark_of
from monsal.routing.check import Finding, FindingKind, findings
from monsal.routing.collect import Source, bare_handler, collect, home_of, name_of, routed_handler
from monsal.routing.dispatch import Call, Orphan, next_call, orphaned
from monsal.routing.index import TokenIndex, fold_case, tokens_of
from monsal.routing.machine import Transition, draw, transitions, unnamed_states
from monsal.routing.marks import (
    MARKS,
    AcceptMark,
    Marks,
    RouteMark,
    StateKeyMark,
    accept,
    authenticate,
    marks_of,
    nolocking,
    on_bounce,
    otherwise,
    requires_authenticated,
    route,
    route_like,
    state_key,
    state_key_generator,
    stateless,
)
from monsal.routing.pattern import Literal, Pattern, check_capture, compile_pattern, is_matchable, literal
from monsal.routing.regex import (
    ANY_CHARACTER,
    Alternatives,
    Characters,
    Group,
    Look,
    Node,
    Reference,
    Repeat,
    Sequence,
    example,
    join_runs,
    literal_runs,
    nodes_below,
    parse_regex,
)
from monsal.routing.router import Addressed, Router, default_state_key
from monsal.routing.safety import MAX_SHARED_LOOPS, count_loops, why_slow
from monsal.routing.screening import find_authenticator, find_screens
from monsal.routing.screens import FACTS, Asked, Screen
from monsal.routing.table import ERROR_STATE, ROUTE_FIRST_STATE, Handler, Match, Module, OnFailure, Route, Table

__all__ = [
    "ANY_CHARACTER",
    "ERROR_STATE",
    "FACTS",
    "MARKS",
    "MAX_SHARED_LOOPS",
    "MAX_TTL",
    "ROUTE_FIRST_STATE",
    "SEALED",
    "AcceptMark",
    "Addressed",
    "Alternatives",
    "Asked",
    "Call",
    "Capability",
    "Characters",
    "Finding",
    "FindingKind",
    "Group",
    "Handler",
    "Literal",
    "Look",
    "Marks",
    "Match",
    "Module",
    "Node",
    "OnFailure",
    "Opened",
    "Orphan",
    "Pattern",
    "Reference",
    "Repeat",
    "Route",
    "RouteMark",
    "Router",
    "Screen",
    "Sequence",
    "Source",
    "StateKeyMark",
    "Table",
    "TokenIndex",
    "Transition",
    "accept",
    "authenticate",
    "bare_handler",
    "build_table",
    "check_capture",
    "collect",
    "compile_pattern",
    "count_loops",
    "days",
    "default_state_key",
    "draw",
    "example",
    "find_authenticator",
    "find_screens",
    "findings",
    "fold_case",
    "home_of",
    "hours",
    "is_matchable",
    "join_runs",
    "literal",
    "literal_runs",
    "mark_of",
    "marks_of",
    "name_of",
    "next_call",
    "nodes_below",
    "nolocking",
    "on_bounce",
    "orphaned",
    "otherwise",
    "parse_regex",
    "requires_authenticated",
    "route",
    "route_like",
    "routed_handler",
    "state_key",
    "state_key_generator",
    "stateless",
    "tokens_of",
    "transitions",
    "unnamed_states",
    "why_slow",
]
