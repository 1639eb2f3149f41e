"""How mail comes in: sockets and pipes in front of the pure protocol, an `Intake` behind it.

May import the floors below; nothing of `monsal.delivery`. Start reading at `base.py` (what an intake promises), then
`doors.py` (listening sockets), `smtp.py` (places, time-outs, stopping), `connection.py` (one client), `handover.py`
(its mail on the way to the intake), `gate.py` (whom it believes) and `answers.py` (what it is told).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monsal.late import late

if TYPE_CHECKING:
    from monsal.ingress.base import Ingress as Ingress
    from monsal.ingress.base import IngressStatistics as IngressStatistics
    from monsal.ingress.base import Intake as Intake
    from monsal.ingress.base import Screening as Screening
    from monsal.ingress.doors import Door as Door
    from monsal.ingress.doors import Doors as Doors
    from monsal.ingress.gate import CheckLogin as CheckLogin
    from monsal.ingress.gate import Gate as Gate
    from monsal.ingress.hosts import Hosts as Hosts
    from monsal.ingress.limits import IngressSettings as IngressSettings
    from monsal.ingress.limits import MemoryBudget as MemoryBudget
    from monsal.ingress.listen import Bind as Bind
    from monsal.ingress.listen import parse_bind as parse_bind
    from monsal.ingress.logins import Logins as Logins
    from monsal.ingress.maildir import MaildirIngress as MaildirIngress
    from monsal.ingress.maildir import MaildirPlace as MaildirPlace
    from monsal.ingress.maildir import parse_maildir as parse_maildir
    from monsal.ingress.pipe import EX_DATAERR as EX_DATAERR
    from monsal.ingress.pipe import EX_OK as EX_OK
    from monsal.ingress.pipe import EX_TEMPFAIL as EX_TEMPFAIL
    from monsal.ingress.pipe import Ingested as Ingested
    from monsal.ingress.pipe import ingest as ingest
    from monsal.ingress.pipe import read_mail as read_mail
    from monsal.ingress.smtp import LmtpIngress as LmtpIngress
    from monsal.ingress.smtp import SmtpIngress as SmtpIngress
    from monsal.ingress.tls import TlsStream as TlsStream
    from monsal.ingress.tls import server_context as server_context
    from monsal.ingress.users import Identity as Identity
    from monsal.ingress.users import Users as Users
    from monsal.ingress.users import user_line as user_line

# Most of those who come here need a few of them: what nobody asks for is not imported.
_HOME = {
    "EX_DATAERR": "monsal.ingress.pipe",
    "EX_OK": "monsal.ingress.pipe",
    "EX_TEMPFAIL": "monsal.ingress.pipe",
    "Bind": "monsal.ingress.listen",
    "CheckLogin": "monsal.ingress.gate",
    "Door": "monsal.ingress.doors",
    "Doors": "monsal.ingress.doors",
    "Gate": "monsal.ingress.gate",
    "Hosts": "monsal.ingress.hosts",
    "Identity": "monsal.ingress.users",
    "Ingested": "monsal.ingress.pipe",
    "Ingress": "monsal.ingress.base",
    "IngressSettings": "monsal.ingress.limits",
    "IngressStatistics": "monsal.ingress.base",
    "Intake": "monsal.ingress.base",
    "LmtpIngress": "monsal.ingress.smtp",
    "Logins": "monsal.ingress.logins",
    "MaildirIngress": "monsal.ingress.maildir",
    "MaildirPlace": "monsal.ingress.maildir",
    "MemoryBudget": "monsal.ingress.limits",
    "Screening": "monsal.ingress.base",
    "SmtpIngress": "monsal.ingress.smtp",
    "TlsStream": "monsal.ingress.tls",
    "Users": "monsal.ingress.users",
    "ingest": "monsal.ingress.pipe",
    "parse_bind": "monsal.ingress.listen",
    "parse_maildir": "monsal.ingress.maildir",
    "read_mail": "monsal.ingress.pipe",
    "server_context": "monsal.ingress.tls",
    "user_line": "monsal.ingress.users",
}

__all__ = [*_HOME]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)
