"""A help desk with tickets, reminders and escalation.

`desk` is the conversation that each customer has with help@; `tickets` the one that customer and agents share at the
address of a ticket. `people` says who is who, `records` is what the desk keeps of tickets, `service` is what
it does when a program calls.
"""
