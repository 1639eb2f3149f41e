"""Who answers. A real desk would have this in a file of its settings."""

HOST = "example.com"
HELP = f"help@{HOST}"

AGENTS = ("agent@example.org",)
SUPERVISOR = "boss@example.org"


def is_agent(address):
    """Whether an address is an agent's.

    From can be forged. It is enough here, because the address of a ticket cannot be guessed: only the customer and
    the agents know it.
    """
    return address in AGENTS or address == SUPERVISOR
