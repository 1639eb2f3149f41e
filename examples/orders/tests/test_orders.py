"""The conversation, told as a play."""

import pytest

from app import app
from monsal.testing import client
from orders import handlers

ANN = "ann@example.net"
DESK = "order@example.com"


@pytest.fixture
def mail():
    with client(app) as mail:
        yield mail


def test_an_order(mail):
    mail.deliver("Hello!", to=DESK, sender=ANN)
    assert "What would you like?" in mail.sent[-1].text
    assert mail.state_of(ANN, handlers) == "CHOOSING"

    mail.deliver("Some tea, please.", to=DESK, sender=ANN, in_reply_to=mail.sent[-1])
    assert "one tea for 4.50" in mail.sent[-1].text
    assert mail.state_of(ANN, handlers) == "CONFIRMING"
    assert mail.query("select customer, item, status from orders") == [(ANN, "tea", "asked")]

    mail.deliver("Yes.", to=DESK, sender=ANN, in_reply_to=mail.sent[-1])
    assert "on its way" in mail.sent[-1].text
    assert mail.query("select customer, item, status from orders") == [(ANN, "tea", "ordered")]
    assert mail.state_of(ANN, handlers) == "START"


def test_who_does_not_answer_is_reminded_once(mail):
    mail.deliver("Hello!", to=DESK, sender=ANN)
    mail.deliver("coffee", to=DESK, sender=ANN)
    mail.advance(days=2)
    assert len(mail.sent) == 2
    mail.advance(days=2)
    assert "still wanted" in mail.sent[-1].text
    mail.advance(days=30)
    assert len(mail.sent) == 3


def test_who_answers_is_not_reminded(mail):
    mail.deliver("Hello!", to=DESK, sender=ANN)
    mail.deliver("coffee", to=DESK, sender=ANN)
    mail.deliver("no", to=DESK, sender=ANN)
    mail.advance(days=30)
    assert "Nothing was ordered" in mail.sent[-1].text
    assert mail.query("select * from orders") == []


def test_what_we_do_not_have(mail):
    mail.deliver("Hello!", to=DESK, sender=ANN)
    mail.deliver("A steak", to=DESK, sender=ANN)
    assert "do not have that" in mail.sent[-1].text
    assert mail.state_of(ANN, handlers) == "CHOOSING"
