"""One interface, declared once for two libraries: quickrpc and monsal.rpc have the same words for it.

    Desk = declare(RemoteAPI, incoming, outgoing)
    Signed = secure(Security, InvalidSignatureError)

Hints say more to monsal.rpc than to quickrpc, which passes over them.
"""

import hashlib
import hmac


def secure(Security, InvalidSignatureError):
    class Signed(Security):
        """Whoever has the key is believed to be who he says."""

        def __init__(self, key, user):
            self.key = key
            self.user = user

        def sec_out(self, payload):
            return {"user": self.user, "mac": self.mac(self.user, payload)}, None

        def sec_in(self, payload, secinfo):
            if not hmac.compare_digest(str(secinfo.get("mac")), self.mac(str(secinfo.get("user")), payload)):
                raise InvalidSignatureError("signed with another key")

        def mac(self, user, payload):
            return hmac.new(self.key, user.encode() + b"\0" + payload, hashlib.sha256).hexdigest()

    return Signed


def declare(RemoteAPI, incoming, outgoing):
    class Desk(RemoteAPI):
        @incoming(has_reply=True)
        def add(self, sender, a: int, b: int = 1):
            """The sum."""

        @incoming(has_reply=True)
        def echo(self, sender, value):
            """The same value."""

        @incoming(has_reply=True)
        def turn(self, sender, data: bytes) -> bytes:
            """The bytes from behind."""

        @incoming(has_reply=True, allow_positional_args=True)
        def join(self, sender, left: str, right: str):
            """Both as one."""

        @incoming(has_reply=True)
        def refuse(self, sender, reason: str):
            """Fails with that reason."""

        @incoming(has_reply=True)
        def nothing(self, sender):
            """No value."""

        @incoming(has_reply=True)
        def checked(self, sender, number: int):
            """Refused by the body of the declaration itself if the number is negative, on either side."""
            if number < 0:
                raise ValueError("a number below zero")

        @incoming
        def note(self, sender, text: str):
            """Told, not asked."""

        @incoming
        def open_ticket(self, sender, subject: str):
            """Has everybody told of it by `ticket_opened`."""

        @incoming(has_reply=True)
        def consult(self, sender, question: str):
            """Asks back by `confirm`, the one who asked, and gives the answer as a note."""

        @incoming(has_reply=True)
        def unheard(self, sender):
            """Nobody listens to it."""

        @outgoing
        def ticket_opened(self, receivers, number: int, subject: str = "none"):
            """Told to all."""

        @outgoing(has_reply=True)
        def confirm(self, receivers, question: str):
            """Asked of one."""

    return Desk


#: What is connected on the side that has the incoming calls.
LISTENED = ("add", "echo", "turn", "join", "refuse", "nothing", "checked", "note", "open_ticket", "consult")


class Clerk:
    """The functions behind a Desk; `tell(event, **details)` hears what happens."""

    def __init__(self, desk, tell):
        self.desk = desk
        self.tell = tell
        self.tickets = 0
        for name in LISTENED:
            getattr(desk, name).connect(getattr(self, name))

    def add(self, sender, a, b=1):
        return a + b

    def echo(self, sender, value):
        return value

    def turn(self, sender, data):
        return bytes(data)[::-1]

    def join(self, sender, left, right):
        return left + right

    def refuse(self, sender, reason):
        raise ValueError(reason)

    def nothing(self, sender):
        pass

    def checked(self, sender, number):
        return number

    def note(self, sender, text, secinfo=None):
        self.tell("noted", text=text, sender=sender, user=(secinfo or {}).get("user"))

    def open_ticket(self, sender, subject):
        self.tickets += 1
        self.desk.ticket_opened(None, number=self.tickets, subject=subject)

    def consult(self, sender, question):
        answer = self.desk.confirm([sender], question=question)
        answer.then(
            lambda value: self.tell("confirmed", answer=value, sender=sender),
            lambda error: self.tell("confirm_failed", error=str(error), kind=type(error).__name__),
        )
        return "asked"


class Visitor:
    """The functions behind an inverted Desk."""

    def __init__(self, desk, tell):
        self.tell = tell
        desk.ticket_opened.connect(self.ticket_opened)
        desk.confirm.connect(self.confirm)

    def ticket_opened(self, sender, number, subject="none"):
        self.tell("ticket_opened", number=number, subject=subject)

    def confirm(self, sender, question):
        if question == "no?":
            raise LookupError("nobody knows")
        return question + " yes"
