"""SMTP and LMTP without sockets: bytes in, events out; decisions in, bytes out.

May import: `monsal.errors`, `monsal.address` and msgspec. No socket, clock, randomness or await.
Start reading at `server.py` (who receives; its states are the table in `states.py`) or `client.py` (who sends; its
table is in `dialogue.py`); both speak in `replies.Reply`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monsal.late import late

if TYPE_CHECKING:
    from monsal.smtp.client import ClientProtocol as ClientProtocol
    from monsal.smtp.dialogue import ANSWERS as ANSWERS
    from monsal.smtp.dialogue import TABLE as TABLE
    from monsal.smtp.dialogue import Answer as Answer
    from monsal.smtp.dialogue import Awaited as Awaited
    from monsal.smtp.endpoint import Credentials as Credentials
    from monsal.smtp.endpoint import Endpoint as Endpoint
    from monsal.smtp.endpoint import Tls as Tls
    from monsal.smtp.endpoint import is_loopback as is_loopback
    from monsal.smtp.endpoint import parse_endpoint as parse_endpoint
    from monsal.smtp.events import Closing as Closing
    from monsal.smtp.events import Event as Event
    from monsal.smtp.events import Hello as Hello
    from monsal.smtp.events import Login as Login
    from monsal.smtp.events import MailFrom as MailFrom
    from monsal.smtp.events import MessageDiscarded as MessageDiscarded
    from monsal.smtp.events import MessageReceived as MessageReceived
    from monsal.smtp.events import Opening as Opening
    from monsal.smtp.events import Quit as Quit
    from monsal.smtp.events import RcptTo as RcptTo
    from monsal.smtp.events import Reset as Reset
    from monsal.smtp.events import StartTls as StartTls
    from monsal.smtp.events import XClient as XClient
    from monsal.smtp.mxurl import MxUrl as MxUrl
    from monsal.smtp.mxurl import parse_mx as parse_mx
    from monsal.smtp.proxy import ProxyHeader as ProxyHeader
    from monsal.smtp.proxy import ProxyReader as ProxyReader
    from monsal.smtp.replies import ABORTED as ABORTED
    from monsal.smtp.replies import ALREADY_ENCRYPTED as ALREADY_ENCRYPTED
    from monsal.smtp.replies import ALREADY_LOGGED_IN as ALREADY_LOGGED_IN
    from monsal.smtp.replies import BAD_ADDRESS as BAD_ADDRESS
    from monsal.smtp.replies import BAD_BASE64 as BAD_BASE64
    from monsal.smtp.replies import BAD_BODY_TYPE as BAD_BODY_TYPE
    from monsal.smtp.replies import BAD_CHUNK as BAD_CHUNK
    from monsal.smtp.replies import BAD_MECHANISM as BAD_MECHANISM
    from monsal.smtp.replies import BAD_PARAMETERS as BAD_PARAMETERS
    from monsal.smtp.replies import BAD_SEQUENCE as BAD_SEQUENCE
    from monsal.smtp.replies import BAD_SYNTAX as BAD_SYNTAX
    from monsal.smtp.replies import BINARY_NEEDS_BDAT as BINARY_NEEDS_BDAT
    from monsal.smtp.replies import CANNOT_VERIFY as CANNOT_VERIFY
    from monsal.smtp.replies import GOODBYE as GOODBYE
    from monsal.smtp.replies import HELP as HELP
    from monsal.smtp.replies import LINE_TOO_LONG as LINE_TOO_LONG
    from monsal.smtp.replies import LOGGED_IN as LOGGED_IN
    from monsal.smtp.replies import LOGIN_CANCELLED as LOGIN_CANCELLED
    from monsal.smtp.replies import LOGIN_NEEDS_TLS as LOGIN_NEEDS_TLS
    from monsal.smtp.replies import LOGIN_UNAVAILABLE as LOGIN_UNAVAILABLE
    from monsal.smtp.replies import MESSAGE_TOO_BIG as MESSAGE_TOO_BIG
    from monsal.smtp.replies import NO_RECIPIENTS as NO_RECIPIENTS
    from monsal.smtp.replies import NO_ROUTES as NO_ROUTES
    from monsal.smtp.replies import NOT_AUTHORIZED as NOT_AUTHORIZED
    from monsal.smtp.replies import NOT_IMPLEMENTED as NOT_IMPLEMENTED
    from monsal.smtp.replies import NOT_SMTP as NOT_SMTP
    from monsal.smtp.replies import OK as OK
    from monsal.smtp.replies import READY_FOR_TLS as READY_FOR_TLS
    from monsal.smtp.replies import RECIPIENT_OK as RECIPIENT_OK
    from monsal.smtp.replies import SENDER_OK as SENDER_OK
    from monsal.smtp.replies import SHUTTING_DOWN as SHUTTING_DOWN
    from monsal.smtp.replies import START_MAIL_INPUT as START_MAIL_INPUT
    from monsal.smtp.replies import STORE_UNAVAILABLE as STORE_UNAVAILABLE
    from monsal.smtp.replies import TIMED_OUT as TIMED_OUT
    from monsal.smtp.replies import TOO_BUSY as TOO_BUSY
    from monsal.smtp.replies import TOO_MANY_CONNECTIONS as TOO_MANY_CONNECTIONS
    from monsal.smtp.replies import TOO_MANY_ERRORS as TOO_MANY_ERRORS
    from monsal.smtp.replies import TOO_MANY_HOPS as TOO_MANY_HOPS
    from monsal.smtp.replies import TOO_MANY_RECIPIENTS as TOO_MANY_RECIPIENTS
    from monsal.smtp.replies import TOO_MANY_TRANSACTIONS as TOO_MANY_TRANSACTIONS
    from monsal.smtp.replies import UNKNOWN_COMMAND as UNKNOWN_COMMAND
    from monsal.smtp.replies import UNKNOWN_RECIPIENT as UNKNOWN_RECIPIENT
    from monsal.smtp.replies import WRONG_LOGIN as WRONG_LOGIN
    from monsal.smtp.replies import Refused as Refused
    from monsal.smtp.replies import Reply as Reply
    from monsal.smtp.reply_parser import ReplyParser as ReplyParser
    from monsal.smtp.server import ServerProtocol as ServerProtocol
    from monsal.smtp.settings import ServerSettings as ServerSettings
    from monsal.smtp.states import ASKED_STATES as ASKED_STATES
    from monsal.smtp.states import CHUNK_STATES as CHUNK_STATES
    from monsal.smtp.states import COMMAND_STATES as COMMAND_STATES
    from monsal.smtp.states import COMMANDS as COMMANDS
    from monsal.smtp.states import CONTENT_STATES as CONTENT_STATES
    from monsal.smtp.states import LINE_STATES as LINE_STATES
    from monsal.smtp.states import TRANSITIONS as TRANSITIONS
    from monsal.smtp.states import Input as Input
    from monsal.smtp.states import SessionState as SessionState
    from monsal.smtp.states import session_table_defects as session_table_defects
    from monsal.smtp.stuffing import DotStuffer as DotStuffer
    from monsal.smtp.transaction import BodyWanted as BodyWanted
    from monsal.smtp.transaction import ClientEvent as ClientEvent
    from monsal.smtp.transaction import ClientReady as ClientReady
    from monsal.smtp.transaction import ClientSettings as ClientSettings
    from monsal.smtp.transaction import ConnectionGivenUp as ConnectionGivenUp
    from monsal.smtp.transaction import RecipientResult as RecipientResult
    from monsal.smtp.transaction import Stage as Stage
    from monsal.smtp.transaction import TlsWanted as TlsWanted
    from monsal.smtp.transaction import Transaction as Transaction
    from monsal.smtp.transaction import TransactionDone as TransactionDone

# Most of those who come here need a few of them: what nobody asks for is not imported.
_HOME = {
    "ABORTED": "monsal.smtp.replies",
    "ALREADY_ENCRYPTED": "monsal.smtp.replies",
    "ALREADY_LOGGED_IN": "monsal.smtp.replies",
    "ANSWERS": "monsal.smtp.dialogue",
    "ASKED_STATES": "monsal.smtp.states",
    "BAD_ADDRESS": "monsal.smtp.replies",
    "BAD_BASE64": "monsal.smtp.replies",
    "BAD_BODY_TYPE": "monsal.smtp.replies",
    "BAD_CHUNK": "monsal.smtp.replies",
    "BAD_MECHANISM": "monsal.smtp.replies",
    "BAD_PARAMETERS": "monsal.smtp.replies",
    "BAD_SEQUENCE": "monsal.smtp.replies",
    "BAD_SYNTAX": "monsal.smtp.replies",
    "BINARY_NEEDS_BDAT": "monsal.smtp.replies",
    "CANNOT_VERIFY": "monsal.smtp.replies",
    "CHUNK_STATES": "monsal.smtp.states",
    "COMMANDS": "monsal.smtp.states",
    "COMMAND_STATES": "monsal.smtp.states",
    "CONTENT_STATES": "monsal.smtp.states",
    "GOODBYE": "monsal.smtp.replies",
    "HELP": "monsal.smtp.replies",
    "LINE_STATES": "monsal.smtp.states",
    "LINE_TOO_LONG": "monsal.smtp.replies",
    "LOGGED_IN": "monsal.smtp.replies",
    "LOGIN_CANCELLED": "monsal.smtp.replies",
    "LOGIN_NEEDS_TLS": "monsal.smtp.replies",
    "LOGIN_UNAVAILABLE": "monsal.smtp.replies",
    "MESSAGE_TOO_BIG": "monsal.smtp.replies",
    "NOT_AUTHORIZED": "monsal.smtp.replies",
    "NOT_IMPLEMENTED": "monsal.smtp.replies",
    "NOT_SMTP": "monsal.smtp.replies",
    "NO_RECIPIENTS": "monsal.smtp.replies",
    "NO_ROUTES": "monsal.smtp.replies",
    "OK": "monsal.smtp.replies",
    "READY_FOR_TLS": "monsal.smtp.replies",
    "RECIPIENT_OK": "monsal.smtp.replies",
    "SENDER_OK": "monsal.smtp.replies",
    "SHUTTING_DOWN": "monsal.smtp.replies",
    "START_MAIL_INPUT": "monsal.smtp.replies",
    "STORE_UNAVAILABLE": "monsal.smtp.replies",
    "TABLE": "monsal.smtp.dialogue",
    "TIMED_OUT": "monsal.smtp.replies",
    "TOO_BUSY": "monsal.smtp.replies",
    "TOO_MANY_CONNECTIONS": "monsal.smtp.replies",
    "TOO_MANY_ERRORS": "monsal.smtp.replies",
    "TOO_MANY_HOPS": "monsal.smtp.replies",
    "TOO_MANY_RECIPIENTS": "monsal.smtp.replies",
    "TOO_MANY_TRANSACTIONS": "monsal.smtp.replies",
    "TRANSITIONS": "monsal.smtp.states",
    "UNKNOWN_COMMAND": "monsal.smtp.replies",
    "UNKNOWN_RECIPIENT": "monsal.smtp.replies",
    "WRONG_LOGIN": "monsal.smtp.replies",
    "Answer": "monsal.smtp.dialogue",
    "Awaited": "monsal.smtp.dialogue",
    "BodyWanted": "monsal.smtp.transaction",
    "ClientEvent": "monsal.smtp.transaction",
    "ClientProtocol": "monsal.smtp.client",
    "ClientReady": "monsal.smtp.transaction",
    "ClientSettings": "monsal.smtp.transaction",
    "Closing": "monsal.smtp.events",
    "ConnectionGivenUp": "monsal.smtp.transaction",
    "Credentials": "monsal.smtp.endpoint",
    "DotStuffer": "monsal.smtp.stuffing",
    "Endpoint": "monsal.smtp.endpoint",
    "Event": "monsal.smtp.events",
    "Hello": "monsal.smtp.events",
    "Input": "monsal.smtp.states",
    "Login": "monsal.smtp.events",
    "MailFrom": "monsal.smtp.events",
    "MessageDiscarded": "monsal.smtp.events",
    "MessageReceived": "monsal.smtp.events",
    "MxUrl": "monsal.smtp.mxurl",
    "Opening": "monsal.smtp.events",
    "ProxyHeader": "monsal.smtp.proxy",
    "ProxyReader": "monsal.smtp.proxy",
    "Quit": "monsal.smtp.events",
    "RcptTo": "monsal.smtp.events",
    "RecipientResult": "monsal.smtp.transaction",
    "Refused": "monsal.smtp.replies",
    "Reply": "monsal.smtp.replies",
    "ReplyParser": "monsal.smtp.reply_parser",
    "Reset": "monsal.smtp.events",
    "ServerProtocol": "monsal.smtp.server",
    "ServerSettings": "monsal.smtp.settings",
    "SessionState": "monsal.smtp.states",
    "Stage": "monsal.smtp.transaction",
    "StartTls": "monsal.smtp.events",
    "Tls": "monsal.smtp.endpoint",
    "TlsWanted": "monsal.smtp.transaction",
    "Transaction": "monsal.smtp.transaction",
    "TransactionDone": "monsal.smtp.transaction",
    "XClient": "monsal.smtp.events",
    "is_loopback": "monsal.smtp.endpoint",
    "parse_endpoint": "monsal.smtp.endpoint",
    "parse_mx": "monsal.smtp.mxurl",
    "session_table_defects": "monsal.smtp.states",
}

__all__ = [*_HOME]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)
