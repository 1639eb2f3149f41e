"""One machine for each list and each person: START (not a member), ASKED (a confirmation is awaited), MEMBER."""

import msgspec

from maillist import digest
from maillist.lists import Leave, headers, members, membership, name_of, way_out
from monsal import Capability, current, days, on_bounce, otherwise, reply, route, send, state_key_generator


class Join(msgspec.Struct):
    """Whoever writes to an address with this in it wanted to join, and reads mail at the address that asked."""

    digest: bool


@state_key_generator
def one_of_each_list(module, message):
    return f"{module}:{name_of(message.recipient)}"


@route("(name)@(host)")
@route("(name)-(word)@(host)", word="subscribe|unsubscribe|digest|direct")
def START(message, name, host, word=None):
    if word != "subscribe":
        reply(f"You are not a member of {name}. Write to {name}-subscribe@{host} to join.")
        return START
    ask(message, name)
    return ASKED


@route("(name)@(host)")
@route("(name)-(word)@(host)", word="subscribe|unsubscribe|digest|direct")
@route("(name)-j+(cap)@(host)", cap=Capability(Join, ttl=days(3), once=True, bound=True))
def ASKED(message, name, host, word=None, cap=None):
    if cap is None:
        ask(message, name)
        return ASKED
    # No two memberships have the same number: who joins again is not taken off by an old mail.
    joined = int(current().turn_id[:8], 16)
    row = (name, message.sender, int(cap.digest), joined)
    current().write("insert or replace into member (list, address, digest, joined) values (?, ?, ?, ?)", row)
    leave = way_out(name, host, message.sender, joined)
    reply(
        f"Welcome to {name}! Write to {name}@{host}, and all members get it.\n\n"
        f"To have one mail a day instead, write to {name}-digest@{host}; to leave, to {leave}.",
        subject=f"Welcome to {name}",
        sender=f"{name}@{host}",
        headers=headers(name, host, leave=leave, who=message.sender),
    )
    return MEMBER


@route("(name)@(host)")
@route("(name)-(word)@(host)", word="subscribe|unsubscribe|digest|direct")
@route("(name)-l+(cap)@(host)", cap=Capability(Leave, ttl=days(365), bound=True))
def MEMBER(message, name, host, word="post", cap=None):
    if cap is not None:
        return leave(message, name, host, cap.joined)
    if word == "post":
        post(message, name, host)
    elif word == "unsubscribe":
        # From can be forged, so whoever asks has to show that they read mail there.
        joined = membership(name, message.sender)
        reply("Answer this mail, and you have left.", sender=way_out(name, host, message.sender, joined))
    elif word == "subscribe":
        reply(f"You are a member of {name} already.")
    else:
        values = (int(word == "digest"), name, message.sender)
        current().write("update member set digest = ? where list = ? and address = ?", values)
        reply("You get one mail a day." if word == "digest" else "You get each mail as it comes.")
    return MEMBER


def leave(message, name, host, joined):
    if joined != membership(name, message.sender):
        reply(f"That was about an earlier time on {name}; to leave now, use a newer mail.", sender=f"{name}@{host}")
        return MEMBER
    current().write("delete from member where list = ? and address = ?", (name, message.sender))
    reply(f"You have left {name}.", sender=f"{name}@{host}")
    return START


@otherwise
def NO_USE(message, name, host):
    """A question that was answered already, or an address to leave by of somebody who has left."""
    reply(f"That address is of no use any more. Write to {name}-subscribe@{host} to join.", sender=f"{name}@{host}")


@on_bounce
def BOUNCED(message, bounce):
    """A mail of the list came back: to whoever cannot be reached it is of no use to write again."""
    remove(name_of(message.recipient), bounce)


def remove(name, bounce):
    """Take those off a list whose addresses fail for good. What may pass is left to the suppression of monsal."""
    for recipient in bounce.recipients:
        if recipient.is_hard:
            current().write("delete from member where list = ? and address = ?", (name, recipient.address))
            current().set_state(START, correspondent=recipient.address)
            current().note(f"{recipient.address} is no member any more: {recipient.reason}")


def ask(message, name):
    """Nobody is put on a list by somebody else: the answer comes from whoever reads mail there."""
    reply(
        f"Somebody, most likely you, wants {message.sender} to join {name}.\n"
        "Answer this mail, and it is so; otherwise forget it.",
        subject=f"Do you want to join {name}?",
        sender=current().address_for(Join(digest=False)),
    )


def post(message, name, host):
    """One mail to all members: its content is stored once, however many they are."""
    if message.is_automatic:
        current().note("nothing that a program wrote goes to a list")
        return
    text = f"{message.sender} wrote:\n\n{message.reply_text}"
    subject = message.subject if f"[{name}]" in message.subject else f"[{name}] {message.subject}"
    others = [address for address in members(name, digest=False) if address != message.sender]
    if others:
        send(
            sender=f"{name}@{host}",
            bcc=others,
            subject=subject,
            text=text,
            headers=headers(name, host),
        )
    if members(name, digest=True):
        current().write("insert into post (list, subject, text) values (?, ?, ?)", (name, subject, text))
        digest.collect(message)
