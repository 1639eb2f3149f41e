"""One machine for each list, whose state all who write share: START (nothing is collected), COLLECTING."""

from maillist.lists import headers, host_of, name_of, way_out
from monsal import after, current, on_bounce, reply, route, send, state_key_generator


@state_key_generator(shared=True)
def one_of_each_list(module, message):
    return f"{module}:{name_of(message.recipient)}"


@route("(name)-now@(host)")
def START(message):
    reply("Nothing was written since the last digest.")


@route("(name)-now@(host)")
def COLLECTING(message):
    return SEND(message)


@on_bounce
def BOUNCED(message, bounce):
    """A digest came back. Who is a member is the other module's, which needs this one first."""
    from maillist.members import remove

    remove(name_of(message.recipient), bounce)


def collect(message):
    """A post was written: the first one says when the digest is due."""
    key = one_of_each_list(__name__, message)
    if not current().read("select 1 from v_states where key = ?", (key,)):
        current().set_state(COLLECTING)
        after(days=1, run=SEND)


def SEND(message):
    """All posts since the last digest, to all who want it so; and again in a day, until there is none.

    Each reader gets a mail of their own, with a link to leave by one click: that is what bulk mail is asked for
    (RFC 8058). A post of somebody goes out as one mail for all (see `members.post`), whose content is stored once.

    Whoever writes at this moment runs beside this turn: what is sent is what was read, and no more is deleted.
    """
    name, host = name_of(message.recipient), host_of(message.recipient)
    posts = current().read("select rowid, subject, text from post where list = ? order by rowid", (name,))
    readers = current().read("select address, joined from member where list = ? and digest = 1", (name,))
    if not posts or not readers:
        return START
    current().write("delete from post where list = ? and rowid <= ?", (name, posts[-1][0]))
    text = "\n\n".join(f"* {subject}\n\n{text}" for _, subject, text in posts)
    for address, joined in readers:
        send(
            address,
            subject=f"[{name}] digest: {len(posts)} mail{'s' * (len(posts) != 1)}",
            text=text,
            sender=f"{name}@{host}",
            headers=headers(name, host, leave=way_out(name, host, address, joined), who=address),
        )
    after(days=1, run=SEND)
    return COLLECTING
