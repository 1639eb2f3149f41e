"""How mail comes in: sockets and pipes in front of the pure protocol, an `Intake` behind it.

May import the floors below; nothing of `monsal.delivery`. Start reading at `base.py` (what an intake promises), then
`doors.py` (listening sockets), `smtp.py` (places, time-outs, stopping), `connection.py` (one client), `gate.py` (whom
it believes) and `answers.py` (what it is told).
"""

from monsal.ingress.base import Ingress, IngressStatistics, Intake, Screening
from monsal.ingress.doors import Door, Doors
from monsal.ingress.gate import CheckLogin, Gate
from monsal.ingress.hosts import Hosts
from monsal.ingress.limits import IngressSettings, MemoryBudget
from monsal.ingress.listen import Bind, parse_bind
from monsal.ingress.logins import Logins
from monsal.ingress.maildir import MaildirIngress, MaildirPlace, parse_maildir
from monsal.ingress.pipe import EX_DATAERR, EX_OK, EX_TEMPFAIL, Ingested, ingest, read_mail
from monsal.ingress.smtp import LmtpIngress, SmtpIngress
from monsal.ingress.tls import TlsStream, server_context
from monsal.ingress.users import Identity, Users, user_line

__all__ = [
    "EX_DATAERR",
    "EX_OK",
    "EX_TEMPFAIL",
    "Bind",
    "CheckLogin",
    "Door",
    "Doors",
    "Gate",
    "Hosts",
    "Identity",
    "Ingested",
    "Ingress",
    "IngressSettings",
    "IngressStatistics",
    "Intake",
    "LmtpIngress",
    "Logins",
    "MaildirIngress",
    "MaildirPlace",
    "MemoryBudget",
    "Screening",
    "SmtpIngress",
    "TlsStream",
    "Users",
    "ingest",
    "parse_bind",
    "parse_maildir",
    "read_mail",
    "server_context",
    "user_line",
]
