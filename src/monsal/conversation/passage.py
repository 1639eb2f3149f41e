"""One claimed row on its way through its handlers: understand, choose, run, commit (DESIGN 4, steps 6 to 9).

Every way out of here is a commit, or an exception after which the row is claimed again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from monsal.conversation.context import Turn, canonical
from monsal.conversation.foreign import ForeignStates
from monsal.conversation.orphans import ack_of_nobody, rename_in
from monsal.conversation.policy import Failure, after_failure, final_ack
from monsal.conversation.proving import Proving, understand
from monsal.conversation.result import Outcome, refused
from monsal.conversation.surroundings import Surroundings
from monsal.conversation.turn import (
    NextState,
    TurnResult,
    build_commit,
    failure_commit,
    rejection_mail,
    render,
)
from monsal.errors import Reject, RouteError, StatementError
from monsal.logline import tell
from monsal.routing import ERROR_STATE, Call, Handler, Match, next_call
from monsal.store.contract import (
    Ack,
    Applied,
    Claimed,
    Conflict,
    OutgoingMail,
    StateKey,
    StateValue,
    TurnCommit,
)

__all__ = ["MAX_CONFLICTS", "ConflictError", "Passage", "captures_of"]

log = logging.getLogger("monsal.turns")

#: A turn that met this many conflicts in a row gives its row back, so that it does not spin.
MAX_CONFLICTS = 20
_DONE = Ack(kind="done")


class ConflictError(Exception):
    """The commit met a state that had changed since it was read: choose and run again."""


class _FencedError(Exception):
    """The lease was lost: somebody else handles the row."""


def captures_of(matches: Sequence[Match], module: str) -> Mapping[str, Any]:
    """The captures of the first matching route that calls a handler of the module."""
    for match in matches:
        if module in match.route.modules:
            return match.captures
    return {}


class Passage:
    """The way of one row. `run` is called once."""

    def __init__(self, row: Claimed, around: Surroundings) -> None:
        self.row = row
        self.around = around
        self.correspondent = canonical(row.correspondent)
        self.message = understand(row, around)
        self.proving = Proving(row, around, self.message)
        self.matches: tuple[Match, ...] = ()
        self.keys: dict[str, StateKey] = {}
        self.view: dict[StateKey, StateValue] = {}
        self.committed = frozenset([turn.handler for turn in row.done])
        self.done = set(self.committed)
        self.stateful_done = any(turn.stateful for turn in row.done) if row.done else False
        self.chosen = len(row.done)
        self.replies = row.replies
        self.quick = row.quick
        self.failures: list[Failure] = []
        self.resumed: set[StateKey] = set()
        self.renamed: set[StateKey] = set()
        self.table = around.router.table
        self.foreign = None if around.states is None else ForeignStates(around.states, self._ask)

    async def run(self) -> None:
        """Handle the row. Raises StoreError if a commit was impossible."""
        try:
            if self.row.source == "timer":
                await self._timer()
            else:
                await self._mail()
        except _FencedError:
            self.around.counts.fenced += 1
            log.warning("a turn came too late: its lease was lost", extra=self._ids("fenced"))
        finally:
            self.failures.clear()  # their errors have frames, and these may have this passage
            self.around.circles.may_hold(self.message.held)

    # -- the kinds of rows --------------------------------------------------------------------------------------

    async def _mail(self) -> None:
        self.quick = max(self.quick, self.around.budget.arrived(self.correspondent, self.row.received))
        self.matches = tuple(self.table.match(self.row.recipient))
        if self.table.capable and self.matches:
            self.matches, refusal = self.proving.screen(self.matches)
            if refusal:
                await self._settle(Ack(kind="dead", reason=refusal))
                return
        if not self.matches:
            await self._settle(Ack(kind="dead", reason="no_route"))
            return
        if self.around.checker is not None and (checked := await self.proving.check(self._ask)) is not None:
            await self._commit(checked)
            self.message = self.proving.message
        if not await self._name_conversations():
            await self._settle(self._final_ack())
            return
        for _ in range(MAX_CONFLICTS):
            try:
                if self.proving.once and (used := await self.proving.used_before()):
                    await self._settle(Ack(kind="dead", reason=used))
                    return
                await self._read_view()
                await self._plan()
                return
            except ConflictError:
                self.around.counts.conflicts += 1
        await self._settle(Ack(kind="again", reason="its states kept changing"))

    async def _timer(self) -> None:
        row = self.row
        assert row.state is not None
        assert row.target is not None
        try:
            handler = self.around.router.resolve(row.target)
        except RouteError as error:
            await self._settle(Ack(kind="dead", reason=f"the target of a timer is gone: {error}"))
            return
        self.matches, _ = self.proving.screen(self.table.match(row.recipient))
        self.keys[handler.module] = row.state
        call = Call(handler, captures_of(self.matches, handler.module))
        for _ in range(MAX_CONFLICTS):
            await self._read_view()
            if self.view[row.state].entered != row.entered:
                await self._settle(Ack(kind="drop", reason="the conversation moved on"))
                return
            try:
                if not await self._turn(call, only=True):
                    await self._settle(self._final_ack(stateful_done=True))
                return
            except ConflictError:
                self.around.counts.conflicts += 1
        await self._settle(Ack(kind="again", reason="its states kept changing"))

    # -- 7: choose ----------------------------------------------------------------------------------------------

    async def _name_conversations(self) -> bool:
        """Find the conversation that each matching machine has with the correspondent (rule routing.R23).

        False if a key generator failed; that is noted like the failure of a handler.
        """
        loaded, state_key = self.table.modules, self.around.router.state_key
        modules = {name: loaded.get(name) for match in self.matches for name in match.route.modules}

        def keys() -> dict[str, StateKey]:
            return {module: StateKey(*state_key(module, self.message)) for module in modules}

        if not [module for module in modules.values() if module is not None and module.key_generator is not None]:
            self.keys = keys()
            return True
        # A key generator is the application's code: it runs where handlers run.
        outcome = await self._ask(keys)
        if outcome.error is None:
            self.keys = outcome.value
            return True
        self._note_failure("state_key_generator", outcome)
        return False

    async def _read_view(self, extra: Sequence[StateKey] = ()) -> None:
        """Read the states of all conversations of this message, once for each machine (rule routing.B18)."""
        wanted = [*{*self.keys.values(), *extra}]
        self.view = dict(await self.around.store.read_states(wanted))
        if self.committed:
            self._resume()
        if self.foreign is not None:
            self.view = await self.foreign.read(wanted, self.view)
        self.renamed = rename_in(self.view, self.keys, self.table)

    def _resume(self) -> None:
        """A message that brought a machine to ERROR and is replayed goes on from where that stood before."""
        self.resumed.clear()
        for module, key in self.keys.items():
            value = self.view[key]
            if value.state == ERROR_STATE and f"{module}:{ERROR_STATE}" in self.committed:
                self.view[key] = msgspec.structs.replace(value, state=value.previous)
                self.resumed.add(key)

    def _next_call(self, view: Mapping[StateKey, StateValue], done: set[str], *, stateful_done: bool) -> Call | None:
        return next_call(
            self.matches,
            lambda module: view[self.keys[module]].state,
            table=self.table,
            done=done,
            stateful_done=stateful_done,
            rescue=self.around.unknown_state == "start",
        )

    async def _plan(self) -> None:
        """Run the handlers of the message, each as a turn with its own commit (rule routing.B4)."""
        while True:
            call = self._next_call(self.view, self.done, stateful_done=self.stateful_done)
            if call is None:
                break
            if call.handler.id in self.committed:
                # Only an ERROR handler can be chosen twice, for a replay; it has had this message.
                await self._settle(Ack(kind="dead", reason=f"{call.handler.id} has dealt with it before"))
                return
            if await self._turn(call):
                return
        await self._settle(self._final_ack(stateful_done=self.stateful_done))

    # -- 8: run -------------------------------------------------------------------------------------------------

    async def _turn(self, call: Call, *, only: bool = False) -> bool:
        """Run one handler and commit; whether that settled the row."""
        handler = call.handler
        turn = self._open_turn(handler, call.captures)
        if call.note:
            self.around.counts.orphans += 1
            turn.notes.append(call.note)
            log.error("%s", call.note, extra=self._ids("orphan_state"))
        refusal = None
        # It may have to read the message from its file, so it is asked where handlers run.
        if handler.requires_authenticated and not (await self._ask(lambda: self.message.authenticated)).value:
            refusal = await self._set_aside(handler)
            if refusal is None:
                return True
        outcome = refusal or await self._call(handler, turn, call.captures)
        if outcome.error is None and turn.parked:  # the handler runs again when somebody has looked at it
            await self._settle(Ack(kind="hold", reason=turn.parked))
            return True
        if outcome.error is None:
            try:
                settled = await self._commit_turn(call, turn, outcome.value, only=only)
            except StatementError as error:
                outcome = refused(error)
            else:
                self.chosen += 1
                return settled
        self.chosen += 1
        failure = self._note_failure(handler.id, outcome)
        self.done.add(handler.id)
        self.stateful_done = self.stateful_done or not handler.stateless
        if failure.wait is not None or handler.stateless or isinstance(failure.error, Reject):
            return False
        return await self._error_turn(handler, call.captures, failure, only=only)

    def _open_turn(self, handler: Handler, captures: Mapping[str, Any]) -> Turn:
        key = self.keys[handler.module]
        return Turn(
            message=self.message,
            handler=handler.id,
            module=handler.module,
            secret=self.around.store.secret,
            state=self.view[key].state,
            conversation=key,
            captures=captures,
            tools=self.around.tools,
            attempts=self.row.attempts,
            replies=self.replies,
            quick=self.quick,
            lease_key=self.row.lease_key,
        )

    def _given(self, handler: Handler) -> dict[str, Any]:
        """What a handler is given beside the message and its captures."""
        return {}

    def _call(self, handler: Handler, turn: Turn, captures: Mapping[str, Any]) -> Coroutine[Any, Any, Outcome]:
        router, message = self.around.router, self.message
        arguments = handler.arguments(captures)
        arguments |= self._given(handler)

        def finish(result: Any) -> TurnResult:
            render(turn, now=self.around.clock.now(), sign=self.around.sign)
            if handler.stateless:
                return TurnResult(None, stateful=False)
            target = router.next_state(result, handler)
            if target is None:
                return TurnResult(None, stateful=True)
            module, name = target
            key = self.keys.get(module)
            if key is None:
                key = StateKey(*router.state_key(module, message))
            return TurnResult(NextState(key, name), stateful=True)

        return self.around.runner.run(
            partial(handler.func, message, **arguments),
            turn=turn,
            is_async=handler.is_async,
            finish=finish,
            deadline=handler.deadline or self.around.deadline,
        )

    async def _set_aside(self, handler: Handler) -> Outcome | None:
        """Let the message wait for its sender's word; the failure of the handler if that cannot be asked for."""
        made = await self.proving.set_aside(handler, self.replies, self._ask)
        if isinstance(made, Outcome):
            return made
        done = await self.proving.stand_aside(made, self._commits)
        if done is None:
            return self.proving.too_many(handler)
        if done.replies:
            self.around.budget.add(self.correspondent, done.now)
        log.info("held: %s", done.ack.reason, extra=self._ids("aside"))
        return None

    async def _commits(self, commit: TurnCommit) -> bool:
        try:
            await self._commit(commit)
        except ConflictError:
            return False
        return True

    async def _error_turn(self, handler: Handler, captures: Mapping[str, Any], failure: Failure, *, only: bool) -> bool:
        """Call the module's ERROR handler with the message that is given up (rule routing.B7)."""
        module = self.table.modules.get(handler.module)
        error_handler = None if module is None else module.failed or module.error
        if error_handler is None or error_handler.id == handler.id or error_handler.id in self.committed:
            return False
        for _ in range(MAX_CONFLICTS):
            turn = self._open_turn(error_handler, captures)
            turn.error = failure.error
            outcome = await self._call(error_handler, turn, captures)
            if outcome.error is not None:
                break
            result: TurnResult = outcome.value
            # The machine stays in ERROR until its handler returns another state (rule routing.R30). In the history it
            # is not the message's stateful turn: a replay must find the handler that failed still to be done.
            result = TurnResult(
                result.next or NextState(self.keys[handler.module], ERROR_STATE),
                stateful=False,
                reason=failure.reason,
            )
            try:
                return await self._commit_turn(Call(error_handler, captures), turn, result, only=only)
            except StatementError as error:
                outcome = refused(error)
                break
            except ConflictError:
                self.around.counts.conflicts += 1
                await self._read_view()
        if outcome.error is not None:
            self._note_failure(error_handler.id, outcome, final=True)
        return False

    def _note_failure(self, handler: str, outcome: Outcome, *, final: bool = False) -> Failure:
        assert outcome.error is not None
        failure = after_failure(
            handler, outcome.error, attempts=self.row.attempts, detail=outcome.detail, text=outcome.text
        )
        if final and failure.wait is not None:
            failure = Failure(handler, failure.error, False, None, failure.reason, failure.detail)
        self.failures.append(failure)
        self.around.counts.failures += 1
        level = logging.WARNING if failure.wait is not None else logging.ERROR
        again = f"again in {failure.wait:g} s" if failure.wait is not None else "given up"
        log.log(level, "%s (%s)\n%s", failure.reason, again, failure.detail, extra=self._ids("turn_failed"))
        return failure

    # -- 9: commit ----------------------------------------------------------------------------------------------

    async def _commit_turn(self, call: Call, turn: Turn, result: TurnResult, *, only: bool) -> bool:
        handler = call.handler
        changes = dict(turn.forced)
        if result.next is not None:
            changes[result.next.state] = result.next.name
        if not changes.keys() <= self.view.keys():
            known = self.view
            await self._read_view(tuple(changes.keys() - known.keys()))
            # What the turn has already seen keeps the version at which it saw it.
            self.view |= known
        done = {*self.done, handler.id}
        stateful_done = self.stateful_done or not handler.stateless
        view = self.view
        if not stateful_done:  # else no state is asked for any more
            view = view | {key: msgspec.structs.replace(view[key], state=name) for key, name in changes.items()}
        last = only or self._next_call(view, done, stateful_done=stateful_done) is None
        ack = self._final_ack(called=1, stateful_done=only or stateful_done) if last else Ack(kind="continue")
        now = self.around.clock.now()
        bounce = self._bounce_mail(ack)
        outgoing = turn.outgoing if bounce is None else (*turn.outgoing, bounce)
        correspondent = self.correspondent
        replies = turn.elsewhere
        for mail in outgoing:
            replies += correspondent in mail.recipients or correspondent in map(canonical, mail.recipients)
        commit = build_commit(
            self.row,
            turn,
            result,
            self.view,
            ack=ack,
            now=now,
            outgoing=outgoing,
            replies=replies,
            resumed=self.resumed if result.stateful else (),
            renamed=self.renamed,
        )
        if turn.error is None and self.proving.once:
            commit = msgspec.structs.replace(commit, identity=self.proving.uses_up())
        if self.foreign is not None:
            commit = await self.foreign.write(commit)
        await self._commit(commit)
        if turn.casts:
            self.around.announce(turn.casts)
        self.done, self.stateful_done = done, stateful_done
        self.around.counts.turns += 1
        self.around.counts.suppressed += turn.suppressed
        self.replies += replies
        for _ in range(replies):
            self.around.budget.add(correspondent, now)
        if bounce is not None and canonical(self.row.sender) != correspondent:
            self.around.budget.add(canonical(self.row.sender), now)
        if (made := commit.turn) is not None:
            note = f" ({made.note})" if made.note else ""
            tell(log, "%s: %s -> %s%s", made.handler, made.before, made.after, note, facts=self._ids("turn"))
        if not last:
            await self._read_view()
        return last

    def _ask(self, function: Callable[[], Any]) -> Coroutine[Any, Any, Outcome]:
        """Call what is no turn, but may wait, fail or kill like one."""
        return self.around.runner.run(function, deadline=self.around.deadline, row=self.row.id)

    def _final_ack(self, *, called: int = 0, stateful_done: bool = False) -> Ack:
        if stateful_done and not self.failures and self.chosen + called:
            return _DONE
        module = self.failures[0].handler.partition(":")[0] if self.failures else ""
        on_failure = self.table.modules[module].on_failure if module in self.table.modules else "dead"
        now, called = self.around.clock.now(), self.chosen + called
        ack = final_ack(self.failures, now=now, on_failure=on_failure, called=called)
        if stateful_done or not self.view:
            return ack
        states = {name: (key.key, self.view[key].state) for name, key in self.keys.items()}
        found = ack_of_nobody(self.around.unknown_state, ack, self.matches, states, self.table)
        self.around.counts.orphans += found.reason.startswith("unknown_state")
        return found

    async def _settle(self, ack: Ack) -> None:
        """Commit what becomes of the row when no handler is left."""
        now = self.around.clock.now()
        bounce = self._bounce_mail(ack)
        await self._commit(failure_commit(self.row, ack=ack, now=now, bounce=bounce))
        if bounce is not None:
            self.around.budget.add(canonical(self.row.sender), now)
        if ack.kind in ("dead", "hold"):
            log.error("dead letter: %s" if ack.kind == "dead" else "held: %s", ack.reason, extra=self._ids(ack.kind))

    def _bounce_mail(self, ack: Ack) -> OutgoingMail | None:
        """The bounce that tells the sender that a handler refused the message (rule routing.B16)."""
        rejections = [each for each in self.failures if isinstance(each.error, Reject)] if ack.kind == "drop" else []
        if not rejections or not self.row.sender or self.message.automatic is not None:
            return None
        limit = self.around.tools.max_replies
        if limit is not None and self.around.tools.replies(self.row.sender) >= max(limit, 1):
            # Whoever forges the sender would have us fill a stranger's mailbox.
            log.warning("%s is told of no more rejections this hour", self.row.sender, extra=self._ids("no_bounce"))
            return None
        error = rejections[0].error
        assert isinstance(error, Reject)
        secret, now, sign = self.around.store.secret, self.around.clock.now(), self.around.sign
        try:
            return rejection_mail(self.message, error, secret=secret, now=now, sign=sign)
        except ValueError as cause:
            log.warning("the sender cannot be told of the rejection: %s", cause, extra=self._ids("no_bounce"))
            return None

    async def _commit(self, commit: TurnCommit) -> None:
        result = await self.around.store.commit(commit)
        if not isinstance(result, Applied):
            raise ConflictError if isinstance(result, Conflict) else _FencedError

    def _ids(self, action: str) -> dict[str, Any]:
        return {
            "action": action,
            "message_id": self.row.message_id,
            "conversation": self.row.correspondent,
            "row": self.row.id,
            "recipient": self.row.recipient,
        }
