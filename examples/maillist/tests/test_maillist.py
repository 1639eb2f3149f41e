"""The list, told as plays."""

from urllib.parse import urlencode

import pytest

LIST = "tea@lists.example.com"
ANN, BOB, EVE = "ann@example.net", "bob@example.net", "eve@example.net"


ONE_CLICK = b"List-Unsubscribe=One-Click"
FORM = b'--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n'


def uris_of(play):
    """Where the last mail says that its list is left: the link, and the address (RFC 2369, section 3.2)."""
    return [uri.strip().strip("<>") for uri in play.last["List-Unsubscribe"].split(",")]


def link_of(play):
    return uris_of(play)[0]


def mailto_of(play):
    return uris_of(play)[1].removeprefix("mailto:")


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
    ann.say(mailto_of(ann), "").expect("You have left").expect_state("START")


def test_nobody_is_put_on_a_list_or_taken_off_by_somebody_else(conversation, member, mail):
    ann, eve = conversation(ANN), conversation(EVE)
    # Eve writes in Ann's name. The question goes to Ann, and only her answer counts.
    mail.deliver("please", to=word("subscribe"), sender=ANN, envelope_sender=EVE)
    ann.expect("Answer this mail")
    question = ann.last
    eve.say(question["From"].strip("<>"), "yes", in_reply_to=question)
    assert mail.query("select * from member") == []
    ann.answer("yes").expect("Welcome")
    eve.say(mailto_of(ann), "")
    assert mail.query("select address from member") == [(ANN,)]


def test_one_click_leaves_and_a_look_does_not(member, mail):
    ann, bob = member(ANN), member(BOB)
    assert ann.last["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = link_of(ann)
    assert link.startswith("https://lists.example.com/list/leave?")
    asked = mail.request("GET", link)
    assert asked.status == 200
    assert "<form method=" in asked.text
    assert asked.headers["cache-control"] == "no-store"
    assert mail.request("POST", link, b"yes=1").status == 400
    assert {address for (address,) in mail.query("select address from member")} == {ANN, BOB}
    left = mail.request("POST", link, ONE_CLICK)
    assert (left.status, "You leave tea" in left.text) == (200, True)
    ann.expect("You have left tea").expect_state("START")
    # A mail program may ask twice, and somebody click again much later: nothing more comes of it.
    assert mail.request("POST", link, ONE_CLICK).status == 200
    ann.wait(days=4)
    again = mail.request("POST", link, FORM, headers={"content-type": "multipart/form-data; boundary=x"})
    assert (again.status, "You are not on tea" in again.text) == (200, True)
    bob.say(LIST, "Anybody?")
    ann.expect("no use any more").expect_nothing()


def test_a_link_is_good_for_whom_and_when_it_was_made(conversation, member, mail):
    ann = member(ANN)
    member(BOB)
    link = link_of(ann)
    place = link.index("%40") - 5
    forged = link[:place] + ("b" if link[place] == "a" else "a") + link[place + 1 :]
    for bad in (forged, link.replace("ann%40", "bob%40"), link.partition("&who")[0]):
        assert mail.request("POST", bad, ONE_CLICK).status == 404, bad
    assert mail.request("POST", link, ONE_CLICK + b"&x=" + b"x" * 100_000).status == 413
    assert mail.rows("dead") == []
    # Ann leaves, and joins again: the link of before takes nobody off.
    ann.say(mailto_of(ann), "").expect("You have left")
    ann.wait(days=4).say(word("subscribe")).expect("Answer").answer("yes").expect("Welcome")
    mail.request("POST", link, ONE_CLICK)
    ann.expect("an earlier time on tea").expect_state("MEMBER").wait(days=366)
    assert mail.request("POST", link, ONE_CLICK).status == 404
    assert {address for (address,) in mail.query("select address from member")} == {ANN, BOB}


def test_a_link_leads_nowhere_else(conversation, member, mail):
    """The page is open to everybody, so it brings in nothing but what was signed for it: no post, no command and no
    answer in somebody's name, and no mail to people who have nothing to do with the list."""
    ann, bob = member(ANN), member(BOB)
    conversation(EVE).say(word("subscribe"), "please").expect("Answer this mail")
    join = mail.sent[-1]["From"].strip("<>")
    before = mail.query("select count(*) from monsal_spool"), len(mail.sent)
    for who, to in [(ANN, LIST), (ANN, word("digest")), (EVE, LIST), (EVE, join), (ANN, "x-l+aaaa@lists.example.com")]:
        asked = mail.request("POST", f"https://x/list/leave?{urlencode({'by': to, 'who': who})}", ONE_CLICK)
        assert asked.status == 404, to
    assert (mail.query("select count(*) from monsal_spool"), len(mail.sent)) == before
    for each in (ann, bob):
        each.expect_nothing()
    # A mail program that folds case, and one that asks again so, bring the same one mail.
    link = link_of(ann)
    assert mail.request("POST", link.replace("ann%40", "ANN%40"), ONE_CLICK).status == 200
    assert mail.request("POST", link.replace("by=tea-l", "by=TEA-L"), ONE_CLICK).status == 200
    ann.expect("You have left tea").expect_state("START").expect_nothing()


@pytest.mark.parametrize(
    "who", ["a\r\nBcc: x@example.net", "ann", "", "\x00@example.net", "ann@\udcff", "é@example.net", "a" * 5000]
)
def test_a_link_for_nobody_is_of_no_use(member, mail, who):
    address = mailto_of(member(ANN))
    for by in (address, who, address.replace("@", "\r\n@")):
        query = urlencode({"by": by, "who": who}, errors="surrogatepass")
        assert mail.request("POST", f"https://x/list/leave?{query}", ONE_CLICK).status == 404
        assert mail.request("GET", f"https://x/list/leave?{query}").status in (200, 404)
    assert mail.rows("dead") == []


def test_a_digest_is_left_by_one_click(member, mail):
    ann, bob = member(ANN), member(BOB)
    bob.say(word("digest")).expect("one mail a day")
    ann.say(LIST, "One", subject="first")
    bob.wait(days=1).expect("One")
    assert mail.request("POST", link_of(bob), ONE_CLICK).status == 200
    bob.expect("You have left tea").expect_state("START", "maillist.members:tea")


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
        " select 'tea', 'm' || n || '@example.org', 0, n from n"
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
