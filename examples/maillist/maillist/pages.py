"""The page by which a list is left (RFC 8058): GET asks, POST leaves, without a cookie, a login or a question.

Its link has the address to leave by, which is signed and bound to whoever it was made for, and who that is.
"""

from html import escape

from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from maillist.lists import is_way_out, name_of
from monsal import deliver_async, read_async
from monsal.errors import AddressError, StoreUnavailable
from monsal.smtp import Refused

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="robots" content="noindex">
<title>{title}</title><h1>{title}</h1>{body}</html>
"""


def page(status, title, body=""):
    # Whom a link is for is in its address, and nobody else's to know.
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return HTMLResponse(PAGE.format(title=escape(title), body=body), status, headers)


async def leave(request):
    address, who = (request.query_params.get(key, "").lower() for key in ("by", "who"))
    name = name_of(address)
    # This page is open to everybody: by any other address it would write to the list, or to strangers, for anybody.
    if not is_way_out(address) or not who:
        return page(404, "This link is not complete", "<p>Was it cut off where its line ended?</p>")
    if request.method != "POST":
        # Programs that look at links before people do must not take anybody off (RFC 8058, section 1).
        button = (
            f"<p>{escape(who)} gets no more mail of {escape(name)} then.</p>"
            '<form method="post"><button name="List-Unsubscribe" value="One-Click">Leave the list</button></form>'
        )
        return page(200, f"Leave {name}?", button)
    body = await request.body()
    if b"List-Unsubscribe" not in body or b"One-Click" not in body:
        return page(400, "This is no request to leave", "<p>It has no List-Unsubscribe=One-Click (RFC 8058).</p>")
    try:
        # Before it, for a moment later they may have left.
        member = await read_async("select 1 from member where list = ? and address = ?", (name, who))
        # One mail, however often it is asked for; it is on the disk before anything is said.
        await deliver_async(to=address, sender=who, subject="one click", key=address)
    except (Refused, AddressError):
        return page(404, "This link is of no use", "<p>It is too old, or was changed on its way.</p>")
    except StoreUnavailable:
        return page(503, "This cannot be done now", "<p>Please try again in some minutes.</p>")
    if member:
        return page(200, f"You leave {name}", f"<p>{escape(who)} gets no more mail of it.</p>")
    return page(200, f"You are not on {name}", f"<p>{escape(who)} gets no mail of it.</p>")


pages = Starlette(routes=[Route("/leave", leave, methods=["GET", "POST"])])
