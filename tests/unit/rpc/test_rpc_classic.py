"""An API over a transport of one's own, in blocking code, as the original design has it (contract rpc, R2 to R25)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monsal.errors import UsageError
from monsal.rpc import (
    CallExpired,
    Codec,
    ConnectionLost,
    DecodeError,
    EncodeError,
    ErrorReply,
    InternalError,
    InvalidParams,
    InvalidSignatureError,
    Message,
    MethodNotFound,
    Promise,
    PromiseDeadlockError,
    PromiseTimeoutError,
    RemoteAPI,
    RemoteError,
    Reply,
    Security,
    SecurityError,
    Transport,
    current,
    incoming,
    outgoing,
)
from monsal.wire.limits import PeerLimits

#: On a machine that has much else to do, nothing is said by how long an example takes.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Wire(Transport):
    """Keeps what is sent; what comes in is put in by the test, on the thread of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[bytes, list[str] | None]] = []
        self.on_send: Callable[[bytes], object] = lambda data: None
        self._rest: dict[str, bytes] = {}

    def send(self, data: bytes, receivers: list[str] | None = None) -> None:
        self.sent.append((data, receivers))
        self.on_send(data)

    def feed(self, *objects: Any, sender: str = "peer") -> None:
        self.feed_bytes(b"".join(msgspec.json.encode(one) + b"\0" for one in objects), sender)

    def feed_bytes(self, data: bytes, sender: str = "peer") -> None:
        self._rest[sender] = self.received(sender, self._rest.get(sender, b"") + data)

    def said(self) -> list[Any]:
        """What was sent since the last time, decoded."""
        sent, self.sent = self.sent, []
        return [msgspec.json.decode(frame) for data, _ in sent for frame in data.split(b"\0") if frame]


class Desk(RemoteAPI):
    @incoming
    def note(self, sender, text): ...

    @incoming(has_reply=True)
    def echo(self, sender, text="none"): ...

    @incoming(has_reply=True, allow_positional_args=True)
    def add(self, sender, a: int, b: int = 1): ...

    @outgoing
    def tell(self, receivers, text=""): ...

    @outgoing(has_reply=True, allow_positional_args=True)
    def ask(self, receivers, question, again=False): ...


def made(api: RemoteAPI | None = None, **options: Any) -> tuple[Any, Wire]:
    wire = Wire()
    api = api or Desk(**options)
    api.transport = wire
    return api, wire


def call(method: str, params: Any = None, known: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": {} if params is None else params, "id": known}


def cast(method: str, params: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": {} if params is None else params}


def elsewhere(action: Callable[[], Any]) -> Any:
    """What `action` gives on another thread."""
    box: list[Any] = []

    def run() -> None:
        try:
            box.append(action())
        except Exception as error:  # noqa: BLE001 - it is raised again by whoever asked
            box.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return box[0]


# -- outgoing -------------------------------------------------------------------------------------------------


@pytest.mark.rule("rpc.R6", "rpc.R9")
def test_one_message_on_the_calling_thread_to_the_receivers() -> None:
    api, wire = made()
    threads: list[threading.Thread] = []
    wire.on_send = lambda data: threads.append(threading.current_thread())
    assert api.tell(None, text="all") is None
    assert api.tell(["a", "b"], text="two") is None
    assert api.tell(receivers=["c"]) is None
    assert [receivers for _, receivers in wire.sent] == [None, ["a", "b"], ["c"]]
    assert set(threads) == {threading.current_thread()}
    assert wire.said() == [cast("tell", {"text": "all"}), cast("tell", {"text": "two"}), cast("tell")]


@pytest.mark.rule("rpc.R9")
def test_ids_count_from_one_and_calls_without_reply_have_none() -> None:
    api, wire = made()
    promises = [api.ask(None, question=str(number)) for number in range(3)]
    api.tell(None)
    assert all(isinstance(promise, Promise) for promise in promises)
    assert [message.get("id") for message in wire.said()] == [1, 2, 3, None]
    other, its_wire = made()
    other.ask(None, question="first of its own")
    assert its_wire.said()[0]["id"] == 1


@pytest.mark.rule("rpc.R7")
def test_positions_are_named_and_only_what_was_given_is_sent() -> None:
    api, wire = made()
    api.ask(None, "why", again=True)
    api.ask(None, "why")
    assert [message["params"] for message in wire.said()] == [{"question": "why", "again": True}, {"question": "why"}]
    for wrong in (lambda: api.tell(None, "text"), lambda: api.ask(None, "why", question="why")):
        with pytest.raises(ValueError):
            wrong()


@pytest.mark.rule("rpc.R8")
def test_wrong_names_send_nothing_and_use_no_id() -> None:
    api, wire = made()
    for wrong in ({}, {"question": 1, "colour": 2}, {"quest": 1}):
        with pytest.raises(TypeError):
            api.ask(None, **wrong)
    assert wire.sent == []
    api.ask(None, question="x")
    assert wire.said()[0]["id"] == 1


def test_receivers_are_a_list_of_names() -> None:
    api, wire = made()
    for odd in ("peer", [1], 7):
        with pytest.raises(TypeError):
            api.tell(odd)
    assert wire.sent == []


@pytest.mark.rule("rpc.R10", "rpc.R31")
def test_values_are_what_the_codec_can_carry() -> None:
    api, wire = made()
    value = {"n": None, "b": True, "i": 2**60, "f": 1.5, "s": "ü", "l": [1, [2]], "raw": b"xy"}
    api.tell(None, text=value)
    assert wire.said()[0]["params"]["text"] == {**value, "raw": {"__bytes": "eHk="}}
    for odd in (object(), {1: object()}, b"a\0b".decode() and {"x": {object()}}):
        with pytest.raises(EncodeError):
            api.tell(None, text=odd)
        with pytest.raises(EncodeError):
            api.ask(None, question=odd)
    api.ask(None, question="the first that was sent")
    assert [message.get("id") for message in wire.said()] == [1]


@pytest.mark.rule("rpc.R2")
def test_a_body_is_run_before_anything_is_sent() -> None:
    class Careful(RemoteAPI):
        @outgoing(has_reply=True)
        def pay(self, receivers, amount):
            if amount < 0:
                raise OverflowError("no")

        @outgoing
        async def later(self, receivers, amount):
            if amount < 0:
                raise OverflowError("no")

    api, wire = made(Careful())
    for pay in (api.pay, api.later):
        with pytest.raises(OverflowError):
            pay(None, amount=-1)
    assert wire.sent == []
    api.pay(None, amount=1)
    assert wire.said()[0]["id"] == 1
    assert api.later(None, amount=1) is None


@pytest.mark.rule("rpc.B17")
def test_without_a_transport_a_call_is_a_clear_error() -> None:
    with pytest.raises(UsageError, match="no transport"):
        Desk().tell(None, text="x")
    with pytest.raises(UsageError, match="no transport"):
        Desk().ask(None, question="x")


@pytest.mark.rule("rpc.B17", "rpc.R5")
def test_setting_a_new_transport_detaches_the_old_one() -> None:
    api, old = made()
    waiting = api.ask(None, question="x")
    new = Wire()
    heard: list[str] = []
    api.note.connect(lambda sender, text: heard.append(text))
    api.transport = new
    old.feed(cast("note", {"text": "old"}))
    new.feed(cast("note", {"text": "new"}))
    assert heard == ["new"]
    with pytest.raises(ConnectionLost):
        elsewhere_result(waiting)
    api.tell(None)
    assert len(new.sent) == 1
    api.transport = None
    assert api.transport is None


def elsewhere_result(promise: Promise) -> Any:
    outcome = elsewhere(lambda: promise.result(60))
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@pytest.mark.rule("rpc.R5")
def test_codec_and_security_may_be_replaced_at_any_moment() -> None:
    api, wire = made()
    api.tell(None)
    api.codec = Lines()
    api.tell(None, text="x")
    assert wire.sent[0][0].startswith(b'{"jsonrpc"')
    assert wire.sent[1][0] == b"tell 0 x\n"


@pytest.mark.rule("rpc.R30", "rpc.R9")
def test_replies_reach_their_promises_in_any_order() -> None:
    api, wire = made()
    one, two, three = (api.ask(None, question=str(number)) for number in range(3))
    wire.feed({"jsonrpc": "2.0", "result": {"x": [1]}, "id": 2})
    wire.feed({"jsonrpc": "2.0", "error": {"code": 1404, "message": "lost", "data": "Traceback ..."}, "id": 3})
    wire.feed({"jsonrpc": "2.0", "result": None, "id": 1})
    assert one.result() is None
    assert two.result() == {"x": [1]}
    with pytest.raises(RemoteError, match="lost") as caught:
        three.result()
    assert caught.value.details == "Traceback ..."


@pytest.mark.rule("rpc.R20")
def test_a_reply_that_nobody_waits_for_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    _api, wire = made()
    for known in (7, None, "x", 1.5):
        wire.feed({"jsonrpc": "2.0", "result": 1, "id": known})
    wire.feed({"jsonrpc": "2.0", "error": {"code": 1, "message": "x"}, "id": 9})
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 5
    assert wire.sent == []


@pytest.mark.rule("rpc.B3", "rpc.B4")
def test_a_call_without_a_reply_fails_at_its_deadline() -> None:
    api, wire = made()
    with pytest.raises(CallExpired):
        elsewhere_result(api.ask.with_(timeout=0.02)(None, question="x"))
    assert api._bytes._pending == {}
    wire.feed({"jsonrpc": "2.0", "result": 1, "id": 1})


@pytest.mark.rule("rpc.B3")
def test_a_failed_send_leaves_nothing_behind() -> None:
    api, wire = made()

    def fail(data: bytes) -> None:
        raise OSError("gone")

    wire.on_send = fail
    with pytest.raises(OSError, match="gone"):
        api.ask(None, question="x")
    assert api._bytes._pending == {}


@pytest.mark.rule("rpc.R26", "rpc.B21")
def test_result_waits_as_long_as_the_call_may_take() -> None:
    api, _ = made()
    assert api.ask(None, question="x")._patience > 30.0
    assert api.ask.with_(timeout=3.0)(None, question="x")._patience < 5.0
    with pytest.raises(PromiseTimeoutError):
        elsewhere_result_of(api.ask(None, question="x"), 0.01)


def elsewhere_result_of(promise: Promise, timeout: float) -> Any:
    outcome = elsewhere(lambda: promise.result(timeout))
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@pytest.mark.rule("rpc.R9")
def test_the_views_work_here_too() -> None:
    api, wire = made()
    wire.on_send = lambda data: answer(wire, data)
    assert elsewhere(lambda: api.sync.ask(question="q")) == "q!"
    assert elsewhere(lambda: api.sync.with_(timeout=5).ask("q")) == "q!"
    api.notify.ask(question="no answer wanted")
    assert wire.said()[-1] == cast("ask", {"question": "no answer wanted"})
    with pytest.raises(AttributeError, match="no outgoing call 'note'"):
        _ = api.call.note


def answer(wire: Wire, data: bytes) -> None:
    said = msgspec.json.decode(data.rstrip(b"\0"))
    if "id" in said:
        wire.feed({"jsonrpc": "2.0", "result": said["params"]["question"] + "!", "id": said["id"]})


# -- incoming -------------------------------------------------------------------------------------------------


@pytest.mark.rule("rpc.R11")
def test_bytes_may_come_in_any_pieces_and_from_several_senders() -> None:
    api, wire = made()
    heard: list[tuple[str, str]] = []
    api.note.connect(lambda sender, text: heard.append((sender, text)))
    frames = [msgspec.json.encode(cast("note", {"text": text})) + b"\0" for text in ("one", "zwei ü", "three")]
    whole = b"".join(frames)
    for index in range(len(whole)):
        wire.feed_bytes(whole[index : index + 1], "slow")
        if index == 10:
            wire.feed_bytes(frames[0], "quick")
    assert heard == [("quick", "one"), ("slow", "one"), ("slow", "zwei ü"), ("slow", "three")]
    assert api._handle_received("new", b'{"jsonrpc"') == b'{"jsonrpc"'


@pytest.mark.rule("rpc.R12", "rpc.B10")
@pytest.mark.parametrize("name", ["nothing", "tell", "trap", "_trap", "__class__", "invert", "", "rpc.nothing"])
def test_what_is_not_declared_is_not_even_looked_at(name: str) -> None:
    class Trapped(Desk):
        @property
        def trap(self) -> None:
            touched.append("trap")

        _trap = trap

        def invert(self) -> None:
            touched.append("invert")

    touched: list[str] = []
    errors: list[tuple[str, Exception, Any]] = []
    api, wire = made(Trapped())
    api.message_error = lambda sender, error, in_reply_to=None: errors.append((sender, error, in_reply_to))
    wire.feed(cast(name), call(name, known="x"))
    assert touched == []
    assert len(errors) == 2
    assert all(isinstance(error, AttributeError) for _, error, _ in errors)
    assert wire.said() == [{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "x"}]


@pytest.mark.rule("rpc.R12", "rpc.R25")
def test_an_unknown_call_with_an_id_is_answered_and_one_without_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    _api, wire = made()
    wire.feed(cast("nothing"))
    assert wire.sent == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    wire.feed(call("nothing"), sender="somebody")
    assert wire.sent[0][1] == ["somebody"]
    assert wire.said()[0]["error"]["code"] == MethodNotFound.code


@pytest.mark.rule("rpc.R13", "rpc.R14")
def test_parameters_that_do_not_fit_run_nothing() -> None:
    api, wire = made()
    ran: list[Any] = []
    for bound in (api.add, api.note, api.echo):
        bound.connect(lambda *args, **kwargs: ran.append(args))
    wrong = [
        ("note", ["x"]),
        ("note", {}),
        ("echo", {"colour": 1}),
        ("add", {"a": "1"}),
        ("add", [1, 2, 3]),
        ("add", []),
    ]
    wire.feed(*(call(method, params) for method, params in wrong))
    assert ran == []
    errors = [message["error"] for message in wire.said()]
    assert [error["code"] for error in errors] == [InvalidParams.code] * len(wrong)
    assert all("wrong signature" in error["message"] for error in errors)


@pytest.mark.rule("rpc.R13")
def test_lists_go_by_position_and_mappings_by_name() -> None:
    api, wire = made()
    api.add.connect(lambda sender, a, b=10: a + b)
    wire.feed(call("add", [1, 2]), call("add", {"b": 5, "a": 1}), call("add", [3]))
    assert [message["result"] for message in wire.said()] == [3, 6, 13]


@pytest.mark.rule("rpc.R13")
def test_a_codec_may_carry_a_single_value_as_parameters() -> None:
    api, wire = made(codec=Lines())
    api.add.connect(lambda sender, a, b=10: a + b)
    api._handle_received("peer", b"add 4 number:5\n")
    assert wire.sent[0][0] == b"reply 4 15\n"


@pytest.mark.rule("rpc.R15")
def test_body_first_then_listeners_in_order_with_the_sender_and_what_was_given() -> None:
    seen: list[Any] = []

    class Loud(RemoteAPI):
        @incoming
        def note(self, sender, text, size=3):
            seen.append(("body", type(self).__name__, sender, text, size))

    class Listener:
        def __call__(self, sender: str, **given: Any) -> None:
            seen.append(("object", sender, given))

        def method(self, sender: str, text: str, size: int = 7) -> None:
            seen.append(("method", sender, text, size))

    api, wire = made(Loud())
    listener = Listener()
    api.note.connect(listener)
    api.note.connect(listener.method)
    api.note.connect(listener)
    wire.feed(cast("note", {"text": "x"}))
    assert seen == [
        ("body", "Loud", "peer", "x", 3),
        ("object", "peer", {"text": "x"}),
        ("method", "peer", "x", 7),
        ("object", "peer", {"text": "x"}),
    ]
    api.note.disconnect(listener)
    api.note.disconnect(listener)
    seen.clear()
    wire.feed(cast("note", {"text": "x", "size": 1}))
    assert seen == [("body", "Loud", "peer", "x", 1), ("method", "peer", "x", 1)]


@pytest.mark.rule("rpc.R7")
def test_a_listener_that_needs_an_omitted_argument_gets_the_declared_default() -> None:
    api, wire = made()
    api.echo.connect(lambda sender, text: text)
    wire.feed(call("echo"))
    assert wire.said()[0]["result"] == "none"


@pytest.mark.rule("rpc.R16")
def test_listeners_get_secinfo_if_they_want_it_and_the_body_does_not() -> None:
    seen: list[Any] = []

    class Named(RemoteAPI):
        @incoming
        def note(self, sender, text):
            seen.append("body")

    api, wire = made(Named(security=Signed()))
    api.note.pass_secinfo(True)
    api.note.connect(lambda sender, text, secinfo: seen.append(secinfo))
    payload = msgspec.json.encode(cast("note", {"text": "x"}))
    header = {"jsonrpc": "2.0", "method": "rpc.secinfo", "params": {"sum": sum(payload) % 100}}
    wire.feed_bytes(msgspec.json.encode(header) + b"\0" + payload + b"\0")
    assert seen == ["body", header["params"]]
    api.note.pass_secinfo(False)
    api.security = "null"
    other, its_wire = made()
    other.note.pass_secinfo(True)
    other.note.connect(lambda sender, text, secinfo: seen.append(secinfo))
    its_wire.feed(cast("note", {"text": "x"}))
    assert seen[-1] == {}


@pytest.mark.rule("rpc.R17")
def test_the_only_result_is_the_reply() -> None:
    api, wire = made()
    wire.feed(call("echo"))
    api.echo.connect(lambda sender, text="": None)
    wire.feed(call("echo"))
    api.echo.connect(lambda sender, text="": 0)
    wire.feed(call("echo"))
    assert [message["result"] for message in wire.said()] == [None, None, 0]


@pytest.mark.rule("rpc.R17")
def test_two_results_are_an_error_after_all_have_run(caplog: pytest.LogCaptureFixture) -> None:
    api, wire = made()
    ran: list[int] = []
    for number in range(3):
        api.echo.connect(lambda sender, number=number, **given: ran.append(number) or number)
    wire.feed(call("echo"))
    assert ran == [0, 1, 2]
    assert wire.said()[0]["error"]["code"] == InternalError.code
    assert "ValueError" in caplog.text


@pytest.mark.rule("rpc.R3", "rpc.R17", "rpc.B8")
def test_results_of_a_call_without_reply_are_dropped_and_an_id_is_answered() -> None:
    api, wire = made()
    api.note.connect(lambda sender, text: 1)
    api.note.connect(lambda sender, text: 2)
    wire.feed(cast("note", {"text": "x"}))
    assert wire.sent == []
    wire.feed(call("note", {"text": "x"}))
    assert wire.said() == [{"jsonrpc": "2.0", "result": None, "id": 1}]


@pytest.mark.rule("rpc.B8")
@pytest.mark.parametrize("known", [0, -1, 1.5, "", "x", None])
def test_each_request_with_an_id_is_answered_whatever_the_id(known: Any) -> None:
    api, wire = made()
    api.echo.connect(lambda sender, text: text)
    wire.feed(call("echo", {"text": "y"}, known))
    assert wire.said() == [{"jsonrpc": "2.0", "result": "y", "id": known}]


@pytest.mark.rule("rpc.R18", "rpc.B9")
def test_a_failure_is_told_without_its_words_and_the_next_call_is_handled(caplog: pytest.LogCaptureFixture) -> None:
    api, wire = made()

    def fail(sender: str, text: str = "") -> str:
        if text == "secret":
            raise TypeError("the secret word")
        return "fine"

    api.echo.connect(fail)
    api.note.connect(fail)
    with caplog.at_level(logging.DEBUG, "monsal.rpc"):
        wire.feed(call("echo", {"text": "secret"}), cast("note", {"text": "secret"}), call("echo"))
    failed, fine = wire.said()
    assert failed["error"]["code"] == InternalError.code
    assert "secret" not in str(failed)
    number = failed["error"]["data"]["incident"]
    assert number in caplog.text
    levels = [record.levelno for record in caplog.records if record.exc_info]
    assert levels == [logging.DEBUG, logging.ERROR, logging.ERROR]
    assert "the secret word" in caplog.text
    assert fine["result"] == "fine"


@pytest.mark.rule("rpc.R19", "rpc.B8")
def test_a_reply_that_cannot_be_encoded_is_logged_and_still_answered(caplog: pytest.LogCaptureFixture) -> None:
    api, wire = made()
    api.echo.connect(lambda sender, text="": object())
    wire.feed(call("echo"))
    assert wire.said()[0]["error"]["code"] == InternalError.code
    assert logging.ERROR in [record.levelno for record in caplog.records]


@pytest.mark.rule("rpc.R19")
def test_a_reply_that_cannot_be_sent_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    api, wire = made()
    api.echo.connect(lambda sender, text: text)

    def fail(data: bytes) -> None:
        raise OSError("gone")

    wire.on_send = fail
    wire.feed(call("echo"), call("echo"))
    assert "gone" in caplog.text
    assert logging.ERROR in [record.levelno for record in caplog.records]


@pytest.mark.rule("rpc.R21", "rpc.R22")
def test_calls_run_on_the_receiving_thread_one_at_a_time() -> None:
    api, wire = made()
    seen: list[Any] = []
    api.note.connect(lambda sender, text: seen.append(threading.current_thread()))
    wire.feed(cast("note", {"text": "x"}))
    there = elsewhere(lambda: (wire.feed(cast("note", {"text": "x"})), threading.current_thread())[1])
    assert seen == [threading.current_thread(), there]


@pytest.mark.rule("rpc.R21")
def test_with_async_processing_calls_run_on_one_extra_thread_and_replies_keep_coming() -> None:
    api, wire = made(async_processing=True)
    done, threads = threading.Event(), []

    def consult(sender: str, text: str) -> None:
        threads.append(threading.current_thread())
        # The reply to this comes while the call that asked it is still handled.
        seen.append(api.ask(None, question=text).result(60))
        done.set()

    seen: list[Any] = []
    api.note.connect(consult)
    wire.feed(cast("note", {"text": "why"}))
    for _ in range(6000):
        if wire.sent:
            break
        threading.Event().wait(0.01)
    wire.feed({"jsonrpc": "2.0", "result": "because", "id": 1})
    assert done.wait(60)
    assert seen == ["because"]
    assert threads[0] is not threading.current_thread()


@pytest.mark.rule("rpc.R23", "rpc.R22")
def test_waiting_on_the_receiving_thread_is_refused_at_once() -> None:
    api, _wire = made()
    caught: list[BaseException] = []

    class Running(Wire):
        def open(self) -> None: ...

        def run(self) -> None:
            self.feed(cast("note", {"text": "x"}))

    def consult(sender: str, text: str) -> None:
        try:
            api.ask(None, question="q").result(30)
        except PromiseDeadlockError as error:
            caught.append(error)

    api.note.connect(consult)
    running = Running()
    api.transport = running
    assert running.start() is True
    running.stop()
    assert len(caught) == 1


@pytest.mark.rule("rpc.R22")
def test_a_listener_that_needs_a_reply_uses_then() -> None:
    api, wire = made()
    seen: list[Any] = []
    api.note.connect(lambda sender, text: api.ask(None, question=text).then(seen.append) and None)
    wire.feed(cast("note", {"text": "x"}), {"jsonrpc": "2.0", "result": "later", "id": 1})
    assert seen == ["later"]


@pytest.mark.rule("rpc.B13")
def test_listeners_may_be_coroutines() -> None:
    api, wire = made()

    @api.echo.handler
    async def echo(sender: str, text: str) -> str:
        return f"{text} from {sender} in {current().method}"

    wire.feed(call("echo", {"text": "x"}))
    assert wire.said()[0]["result"] == "x from peer in echo"


@pytest.mark.rule("rpc.R25")
def test_message_error_may_be_overridden_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    class Strict(Desk):
        def message_error(self, sender: str, exception: Exception, in_reply_to: Any = None) -> None:
            seen.append((sender, type(exception), in_reply_to and in_reply_to.id))
            raise RuntimeError("the hook itself")

    seen: list[Any] = []
    _api, wire = made(Strict())
    wire.feed_bytes(b"garbage\0")
    wire.feed(call("nothing", known=4))
    assert seen == [("peer", DecodeError, None), ("peer", MethodNotFound, 4)]
    assert [message["id"] for message in wire.said()] == [None, 4]
    assert "the hook itself" in caplog.text


@pytest.mark.rule("rpc.B1", "rpc.B8")
def test_six_messages_that_ended_the_original() -> None:
    api, wire = made()
    api.echo.connect(lambda sender, text: text)
    for odd in (
        b"{no json}",
        b'[{"jsonrpc":"2.0","method":"echo","id":1},1]',
        b'{"method":5}',
        b'{"id":null,"result":1}',
        b'{"__bytes":5}',
        b'{"jsonrpc":"2.0","method":"rpc.secinfo","params":{"sum":"bad"}}\0{"jsonrpc":"2.0","method":"echo","id":1}',
    ):
        wire.feed_bytes(odd + b"\0", "bad")
    wire.sent.clear()
    wire.feed(call("echo", {"text": "still there"}), sender="good")
    assert wire.said()[0]["result"] == "still there"


@pytest.mark.rule("rpc.B8")
def test_a_batch_is_answered_as_one() -> None:
    api, wire = made()
    api.add.connect(lambda sender, a, b=1: a + b)
    wire.feed([call("add", [1], 1), cast("add", [2]), call("nothing", known="2"), 7, call("add", {"a": 5}, None)])
    assert len(wire.sent) == 1
    (answers,) = wire.said()
    assert [(one["id"], one.get("result", one.get("error", {}).get("code"))) for one in answers] == [
        (1, 2),
        ("2", -32601),
        (None, -32600),
        (None, 6),
    ]
    wire.feed([cast("add", [2]), cast("add", [3])])
    assert wire.sent == []


@pytest.mark.rule("rpc.B7", "rpc.B1")
def test_a_message_without_an_end_is_given_up() -> None:
    class Small(Desk):
        limits = PeerLimits(frame=1000)

    api, wire = made(Small())
    wire.feed_bytes(b"x" * 10_000)
    assert len(wire._rest["peer"]) < 6000
    api.codec = Lines()
    wire.feed_bytes(b"x" * 10_000, "other")
    assert wire._rest["other"] == b""


@pytest.mark.rule("rpc.B1")
@patient
@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b"\0", b'{"jsonrpc":"2.0","method":"echo","id":1}\0', b"[]\0"]))
)
def test_any_bytes_do_no_harm(pieces: list[bytes]) -> None:
    logging.disable(logging.CRITICAL)
    try:
        _api, wire = made()
        for piece in pieces:
            wire.feed_bytes(piece)
        wire.sent.clear()
        wire.feed(call("add", {"a": 1}), sender="good")
        assert wire.said() == [{"jsonrpc": "2.0", "result": None, "id": 1}]
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.rule("rpc.R18", "rpc.B9")
def test_an_error_on_purpose_is_told() -> None:
    from monsal.rpc import AppError, Busy, Forbidden

    class NotFound(AppError, code=1404): ...

    class Shop(Desk):
        errors = (NotFound,)

    api, wire = made(Shop())
    raised = iter(
        [NotFound("no such thing", data={"n": 1}), Forbidden("not you"), Busy("later", 2.5), UsageError("odd")]
    )

    def fail(sender: str, text: str) -> None:
        raise next(raised)

    api.echo.connect(fail)
    wire.feed(*[call("echo")] * 4)
    assert [message["error"] for message in wire.said()] == [
        {"code": 1404, "message": "no such thing", "data": {"n": 1}},
        {"code": -32003, "message": "not you"},
        {"code": -32000, "message": "later", "data": {"retry_after": 2.5}},
        {"code": -32010, "message": "odd", "data": {"kind": "UsageError"}},
    ]


@pytest.mark.rule("rpc.B9")
def test_a_traceback_is_for_an_administrator_in_debug_mode() -> None:
    class Open(Desk):
        def is_administrator(self, caller: Any) -> bool:
            return caller.sender == "boss"

    api, wire = made(Open())
    api.echo.connect(lambda sender, text: 1 // 0)
    for debug, sender in ((False, "boss"), (True, "clerk"), (True, "boss")):
        api.debug = debug
        wire.feed(call("echo"), sender=sender)
    told = ["traceback" in message["error"]["data"] for message in wire.said()]
    assert told == [False, False, True]


# -- codecs and securities of one's own -----------------------------------------------------------------------


class Lines(Codec):
    """`method id text` a line; `reply id value`; `error id words`."""

    def encode(self, method: str, kwargs: Any = None, id: Any = 0, sec_out: Any = None) -> bytes:  # noqa: A002 - the name is the contract's
        return f"{method} {id} {' '.join(map(str, (kwargs or {}).values()))}\n".encode()

    def encode_reply(self, in_reply_to: Any, result: Any, sec_out: Any = None) -> bytes:
        return f"reply {in_reply_to.id} {result}\n".encode()

    def encode_error(self, in_reply_to: Any, exception: Any, errorcode: int = 0, sec_out: Any = None) -> bytes:
        return f"error {in_reply_to.id} {errorcode} {exception}\n".encode()

    def decode(self, data: bytes, sec_in: Any = None) -> tuple[list[Any], bytes]:
        *lines, rest = data.split(b"\n")
        return [self.item(line.decode()) for line in lines], rest

    @staticmethod
    def item(line: str) -> Any:
        try:
            word, known, value = line.split(" ", 2)
            if word == "reply":
                return Reply(value, int(known))
            if word == "error":
                return ErrorReply(value, int(known), 5)
            given: Any = int(value[7:]) if value.startswith("number:") else {"text": value} if value else {}
            return Message(word, given, int(known))
        except ValueError as error:
            return error


def test_a_codec_of_ones_own() -> None:
    api, wire = made(codec=Lines())
    api.echo.connect(lambda sender, text: text)
    wire.feed_bytes(b"echo 3 hello\necho 0 nobody waits\nbad\nnothing 4 \n")
    assert [data for data, _ in wire.sent] == [b"reply 3 hello\n", b"error 4 -32601 Method not found\n"]
    promise = api.ask(None, question="q")
    assert wire.sent[-1][0] == b"ask 1 q\n"
    wire.feed_bytes(b"reply 1 so\n")
    assert promise.result() == "so"
    failing = api.ask(None, question="q")
    wire.feed_bytes(b"error 2 no\n")
    with pytest.raises(RemoteError, match="no"):
        failing.result()


@pytest.mark.rule("rpc.B1")
def test_a_codec_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Lines):
        def decode(self, data: bytes, sec_in: Any = None) -> tuple[list[Any], bytes]:
            if data.startswith(b"!"):
                raise RuntimeError("cannot")
            return super().decode(data, sec_in)

    api, wire = made(codec=Broken())
    wire.feed_bytes(b"!\n")
    api.echo.connect(lambda sender, text: text)
    wire.feed_bytes(b"echo 1 x\n", "good")
    assert wire.sent == [(b"reply 1 x\n", ["good"])]
    assert "cannot" in caplog.text


class Signed(Security):
    """The sum of the octets, for a test only."""

    def sec_out(self, payload: bytes) -> tuple[dict[str, Any], bytes | None]:
        return {"sum": sum(payload) % 100}, None

    def sec_in(self, payload: bytes, secinfo: dict[str, Any]) -> bytes | None:
        if secinfo["sum"] != sum(payload) % 100:
            raise InvalidSignatureError("the sum is wrong")
        return None


@pytest.mark.rule("rpc.B6", "rpc.R32")
def test_on_a_signed_api_the_unsigned_is_refused_before_anything_runs() -> None:
    errors: list[Exception] = []

    class Sealed(Desk):
        def message_error(self, sender: str, exception: Exception, in_reply_to: Any = None) -> None:
            errors.append(exception)

    api, wire = made(Sealed(security=Signed()))
    heard: list[str] = []
    api.note.connect(lambda sender, text: heard.append(text))
    wire.feed(cast("note", {"text": "unsigned"}))
    header = {"jsonrpc": "2.0", "method": "rpc.secinfo", "params": {"sum": 0}}
    wire.feed(header, cast("note", {"text": "wrong"}))
    wire.feed({**header, "params": {}}, cast("note", {"text": "empty"}))
    assert heard == []
    assert len(errors) == 3
    assert all(isinstance(error, SecurityError) for error in errors)


@pytest.mark.rule("rpc.R32")
def test_signed_both_ways() -> None:
    left, its = made(security=Signed())
    right, others = made(Desk(security=Signed(), invert=True))
    its.on_send = lambda data: others.feed_bytes(data)
    others.on_send = lambda data: its.feed_bytes(data)
    left.echo.connect(lambda sender, text: text * 2)
    assert right.echo(None, text="ab").result() == "abab"
    assert others.sent[0][0].count(b"\0") == 2
