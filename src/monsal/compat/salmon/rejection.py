"""The words of SMTP for a code, and the error that carries one out of a handler."""

from __future__ import annotations

from collections.abc import Mapping

from monsal.errors import Reject

__all__ = ["COMBINED_STATUS_CODES", "PRIMARY_STATUS_CODES", "SECONDARY_STATUS_CODES", "SMTPError"]

# The titles are those of RFC 3463, sections 3.1 to 3.8; keys are digits as text, "11" stands for X.1.1.
PRIMARY_STATUS_CODES: Mapping[str, str] = {
    "1": "Unknown Status Code 1",
    "2": "Success",
    "3": "Temporary Failure",
    "4": "Persistent Transient Failure",
    "5": "Permanent Failure",
}
SECONDARY_STATUS_CODES: Mapping[str, str] = {
    "0": "Other or Undefined Status",
    "1": "Addressing Status",
    "2": "Mailbox Status",
    "3": "Mail System Status",
    "4": "Network and Routing Status",
    "5": "Mail Delivery Protocol Status",
    "6": "Message Content or Media Status",
    "7": "Security or Policy Status",
}
COMBINED_STATUS_CODES: Mapping[str, str] = {
    "00": "Not Applicable",
    "10": "Other address status",
    "11": "Bad destination mailbox address",
    "12": "Bad destination system address",
    "13": "Bad destination mailbox address syntax",
    "14": "Destination mailbox address ambiguous",
    "15": "Destination mailbox address valid",
    "16": "Mailbox has moved",
    "17": "Bad sender's mailbox address syntax",
    "18": "Bad sender's system address",
    "20": "Other or undefined mailbox status",
    "21": "Mailbox disabled, not accepting messages",
    "22": "Mailbox full",
    "23": "Message length exceeds administrative limit",
    "24": "Mailing list expansion problem",
    "30": "Other or undefined mail system status",
    "31": "Mail system full",
    "32": "System not accepting network messages",
    "33": "System not capable of selected features",
    "34": "Message too big for system",
    "40": "Other or undefined network or routing status",
    "41": "No answer from host",
    "42": "Bad connection",
    "43": "Routing server failure",
    "44": "Unable to route",
    "45": "Network congestion",
    "46": "Routing loop detected",
    "47": "Delivery time expired",
    "50": "Other or undefined protocol status",
    "51": "Invalid command",
    "52": "Syntax error",
    "53": "Too many recipients",
    "54": "Invalid command arguments",
    "55": "Wrong protocol version",
    "60": "Other or undefined media error",
    "61": "Media not supported",
    "62": "Conversion required and prohibited",
    "63": "Conversion required but not supported",
    "64": "Conversion with loss performed",
    "65": "Conversion failed",
    "70": "Other or undefined security status",
    "71": "Delivery not authorized, message refused",
    "72": "Mailing list expansion prohibited",
    "73": "Security conversion required but not possible",
    "74": "Security features not supported",
    "75": "Cryptographic failure",
    "76": "Cryptographic algorithm not supported",
    "77": "Message integrity failure",
}


class SMTPError(Reject):
    """Raised in a handler to refuse a message, with an SMTP code.

    Below `Router.deliver` it leaves that method and is the answer of the session (rule routing.R28). In a server the
    message was accepted before: 4xx has it tried again, 5xx sends a bounce (B16). Without `message` the words follow
    from the first two digits. Unlike `Reject` it takes any code; one that is not 4xx counts as final.
    """

    def __init__(self, code: int, message: str | None = None) -> None:
        text = _words(code) if message is None else message
        super().__init__(code if 400 <= code <= 599 else 554, text)
        self.code = code
        self.message = text
        self.args = (code, text)

    def __str__(self) -> str:
        return f"{self.code} {self.message}"


def _words(code: int) -> str:
    digits = str(code)
    primary = PRIMARY_STATUS_CODES.get(digits[:1], "")
    return f"{primary} {SECONDARY_STATUS_CODES.get(digits[1:2], '')}".strip() if primary else ""
