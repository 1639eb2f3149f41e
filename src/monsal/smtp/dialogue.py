"""What a reply means to a client: the one table of its state machine.

A client's state is the queue of commands that wait for a reply (RFC 5321, section 3; RFC 2920 allows several). The
meaning of a reply depends on the command at its head and on the class of the reply, and on nothing else.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["ANSWERS", "TABLE", "Answer", "Awaited"]


class Awaited(Enum):
    """What the next reply of the peer answers."""

    # Looked up for each reply: that of Enum is a function in Python, and hashes the name.
    __hash__ = object.__hash__

    GREETING = "the greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "the end of the mail data"
    DOT = "a lone dot"
    RSET = "RSET"
    QUIT = "QUIT"


class Answer(Enum):
    """The class of a reply."""

    __hash__ = object.__hash__

    YES = "2yz"
    MORE = "3yz"
    LATER = "4yz"
    NEVER = "5yz"
    BYE = "421"


#: (what is answered, class of the reply) -> what is done: the name of a method of `client.ClientProtocol`.
#: A pair that is not here is a breach of the protocol: the connection is given up.
TABLE: dict[tuple[Awaited, Answer], str] = {
    (Awaited.GREETING, Answer.YES): "_say_hello",
    (Awaited.GREETING, Answer.LATER): "_turned_away",
    (Awaited.GREETING, Answer.NEVER): "_turned_away",
    (Awaited.EHLO, Answer.YES): "_be_ready",
    (Awaited.EHLO, Answer.LATER): "_turned_away",
    (Awaited.EHLO, Answer.NEVER): "_fall_back",
    (Awaited.HELO, Answer.YES): "_be_ready",
    (Awaited.HELO, Answer.LATER): "_turned_away",
    (Awaited.HELO, Answer.NEVER): "_turned_away",
    (Awaited.STARTTLS, Answer.YES): "_shake_hands",
    (Awaited.STARTTLS, Answer.LATER): "_go_on_in_clear",
    (Awaited.STARTTLS, Answer.NEVER): "_go_on_in_clear",
    (Awaited.AUTH, Answer.YES): "_authenticated",
    (Awaited.AUTH, Answer.MORE): "_answer_challenge",
    (Awaited.AUTH, Answer.LATER): "_not_authenticated",
    (Awaited.AUTH, Answer.NEVER): "_not_authenticated",
    (Awaited.MAIL, Answer.YES): "_sender_taken",
    (Awaited.MAIL, Answer.LATER): "_sender_refused",
    (Awaited.MAIL, Answer.NEVER): "_sender_refused",
    (Awaited.RCPT, Answer.YES): "_recipient_taken",
    (Awaited.RCPT, Answer.LATER): "_recipient_refused",
    (Awaited.RCPT, Answer.NEVER): "_recipient_refused",
    (Awaited.DATA, Answer.MORE): "_send_content",
    (Awaited.DATA, Answer.LATER): "_content_unwanted",
    (Awaited.DATA, Answer.NEVER): "_content_unwanted",
    (Awaited.BODY, Answer.YES): "_content_answered",
    (Awaited.BODY, Answer.LATER): "_content_answered",
    (Awaited.BODY, Answer.NEVER): "_content_answered",
    (Awaited.DOT, Answer.YES): "_go_on",
    (Awaited.DOT, Answer.LATER): "_go_on",
    (Awaited.DOT, Answer.NEVER): "_go_on",
    (Awaited.RSET, Answer.YES): "_go_on",
    (Awaited.RSET, Answer.LATER): "_turned_away",
    (Awaited.RSET, Answer.NEVER): "_turned_away",
    (Awaited.QUIT, Answer.YES): "_part",
    (Awaited.QUIT, Answer.LATER): "_part",
    (Awaited.QUIT, Answer.NEVER): "_part",
    **{(awaited, Answer.BYE): "_turned_away" for awaited in Awaited if awaited is not Awaited.QUIT},
    (Awaited.QUIT, Answer.BYE): "_part",
}
#: The class of each code: that of its first digit, but for 421.
ANSWERS: dict[int, Answer] = {
    first * 100 + rest: answer
    for first, answer in ((2, Answer.YES), (3, Answer.MORE), (4, Answer.LATER), (5, Answer.NEVER))
    for rest in range(100)
} | {421: Answer.BYE}
