"""The list, told as plays."""

import pytest

LIST = "tea@lists.example.com"
ANN, BOB, EVE = "ann@example.net", "bob@example.net", "eve@example.net"


def word(name):
    return f"tea-{name}@lists.example.com"


@pytest.fixture
def member(conversation):
    """Makes members of the list, who have answered as they were asked."""

    def join(address):
        return (
            conversation(address)
            .say(word("subscribe"), "please")
            .expect("Answer this mail")
            .answer("yes")
            .expect("Welcome")
        )

    return join


def test_who_joins_confirms_writes_and_leaves(conversation, member, mail):
    ann = member(ANN).expect_state("MEMBER")
    bob = member(BOB)
    ann.say(LIST, "Who has Earl Grey?", subject="Earl Grey").expect_nothing()
    bob.expect("ann@example.net wrote: Who has Earl Grey?", subject="[tea] Earl Grey", sender=LIST)
    assert bob.last["List-Id"] == "<tea.lists.example.com>"
    assert bob.last["List-Post"] == f"<mailto:{LIST}>"
    assert bob.last["List-Unsubscribe"] == f"<mailto:{word('unsubscribe')}>"
    bob.answer("I do.")
    ann.expect("I do.", subject="[tea] Earl Grey")
    bob.say(word("unsubscribe")).expect("you have left").answer("yes").expect("You have left tea").expect_state("START")
    ann.say(LIST, "Anybody?")
    bob.expect_nothing().say(LIST, "Hello?").expect("not a member")
    ann.expect_nothing()
    conversation(EVE).refused("water@lists.example.com")


def test_the_welcome_has_an_address_that_needs_no_question(member):
    ann = member(ANN)
    leave = ann.last["List-Unsubscribe"].removeprefix("<mailto:").removesuffix(">")
    ann.say(leave, "").expect("You have left").expect_state("START")


def test_nobody_is_put_on_a_list_or_taken_off_by_somebody_else(conversation, member, mail):
    ann, eve = conversation(ANN), conversation(EVE)
    # Eve writes in Ann's name. The question goes to Ann, and only her answer counts.
    mail.deliver("please", to=word("subscribe"), sender=ANN, envelope_sender=EVE)
    ann.expect("Answer this mail")
    question = ann.last
    eve.say(question["From"].strip("<>"), "yes", in_reply_to=question)
    assert mail.query("select * from member") == []
    ann.answer("yes").expect("Welcome")
    leave = ann.last["List-Unsubscribe"].removeprefix("<mailto:").removesuffix(">")
    eve.say(leave, "")
    assert mail.query("select address from member") == [(ANN,)]


def test_a_question_can_be_answered_once_and_for_three_days(conversation, mail):
    ann = conversation(ANN).say(word("subscribe")).expect("Answer")
    ann.wait(days=4).refused(ann.last["From"], "yes").expect_nothing()
    assert mail.query("select * from member") == []
    ann.say(word("subscribe")).expect("Answer").answer("yes").expect("Welcome")
    question = ann.mails[1]
    ann.say(word("unsubscribe")).expect("you have left").answer("yes").expect("You have left")
    ann.say(word("subscribe")).expect("Answer")
    ann.say(question["From"], "yes", in_reply_to=question).expect_nothing().expect_dead()
    assert mail.query("select * from member") == []


def test_each_list_has_states_of_its_own(conversation, member):
    ann = member(ANN).expect_state("MEMBER")
    ann.say("coffee@lists.example.com", "Espresso?").expect("not a member of coffee").expect_state("START")


def test_one_mail_a_day(conversation, member, mail):
    ann, bob, eve = member(ANN), member(BOB), member(EVE)
    bob.say(word("digest")).expect("one mail a day")
    ann.say(LIST, "One", subject="first")
    eve.expect("One").say(LIST, "Two", subject="second")
    ann.expect("Two")
    bob.expect_nothing().wait(hours=24).expect("* [tea] first", subject="[tea] digest: 2 mails")
    assert "ann@example.net wrote:\n\nOne" in bob.last.text
    bob.wait(days=3).expect_nothing()
    ann.say(LIST, "Three", subject="third")
    conversation(ANN).say("tea-now@lists.example.com")
    bob.expect("Three", subject="digest: 1 mail").wait(days=3).expect_nothing()
    bob.say(word("direct")).expect("as it comes")
    ann.say(LIST, "Four")
    bob.expect("Four").wait(days=3).expect_nothing()


def test_what_a_program_wrote_goes_to_nobody(member, conversation):
    ann, bob = member(ANN), member(BOB)
    ann.say(LIST, "I am away.", headers={"Precedence": "bulk"})
    bob.expect_nothing()


@pytest.mark.parametrize("store", ["memory:", "sqlite"])
def test_ten_thousand_members_and_one_content(monsal_client, store):
    """A row for each recipient, and the content once: a post of 100 kB to 10,000 people is no gigabyte."""
    mail = monsal_client(store=store)
    ann = mail.conversation(ANN).say(word("subscribe")).expect("Answer").answer("yes").expect("Welcome")
    mail.write(
        "insert into member with recursive n(n) as (values (1) union all select n + 1 from n where n < 10000)"
        " select 'tea', 'm' || n || '@example.org', 0 from n"
    )
    mail.relay.hang()
    before = mail.query("select count(*), sum(size) from monsal_bodies")[0]
    ann.say(LIST, "x" * 100_000, subject="Long")
    after = mail.query("select count(*), sum(size) from monsal_bodies")[0]
    # Ann's own mail, and the one to all.
    assert after[0] - before[0] == 2
    assert after[1] - before[1] < 250_000
    assert mail.query("select count(*), count(distinct mail) from monsal_outbox where recipient like 'm%'") == [
        (10000, 1)
    ]
    mail.relay.release()
    mail.settle()
    assert sum(len(sent.to) for sent in mail.sent if sent.subject == "[tea] Long") == 10000


@pytest.mark.parametrize("as_digest", [False, True])
def test_who_cannot_be_reached_is_a_member_no_more(member, mail, as_digest):
    ann, bob, eve = member(ANN), member(BOB), member(EVE)
    if as_digest:
        bob.say(word("digest")).expect("one mail a day")
        eve.say(word("digest")).expect("one mail a day")
    mail.relay.fail(BOB, reason="550 5.1.1 no such user here")
    mail.relay.defer(EVE, reason="452 4.2.2 mailbox full", times=1)
    ann.say(LIST, "Who has Earl Grey?")
    mail.advance(days=2)
    assert sorted(mail.query("select address from member")) == [(ANN,), (EVE,)]
    bob.expect_state("START", "maillist.members:tea")
    ann.expect_state("MEMBER", "maillist.members:tea")
    eve.expect("Who has Earl Grey?").expect_state("MEMBER", "maillist.members:tea")
    assert mail.rows("dead") == []
