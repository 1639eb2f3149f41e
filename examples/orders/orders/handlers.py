"""The conversation: one function for each state it can be in."""

from monsal import after, current, reply, route
from orders import catalogue


@route("order@(host)")
def START(message):
    reply("What would you like? We have: " + ", ".join(catalogue.names()) + ".")
    return CHOOSING


@route("order@(host)")
async def CHOOSING(message):
    item = await catalogue.find(message.reply_text)
    if item is None:
        reply("We do not have that. What else?")
        return CHOOSING
    # What is asked for now; it becomes an order when the answer is yes.
    current().write(
        "insert or replace into orders (customer, item, price, status) values (?, ?, ?, 'asked')",
        (message.sender, item.name, item.price),
    )
    reply(template="confirm.txt", item=item)
    after(days=3, run=REMIND)
    return CONFIRMING


@route("order@(host)")
def CONFIRMING(message):
    answer = message.reply_text.strip().lower()
    if answer.startswith("yes"):
        current().write(
            "update orders set status = 'ordered' where customer = ? and status = 'asked'", (message.sender,)
        )
        reply("Thank you. It is on its way.")
        return START
    if answer.startswith("no"):
        current().write("delete from orders where customer = ? and status = 'asked'", (message.sender,))
        reply("Nothing was ordered. Write again when you like.")
        return START
    reply("Please answer yes or no.")
    return CONFIRMING


def REMIND(message):
    """Called three days after the question, if there was no answer."""
    reply("Is your order still wanted? Please answer yes or no.")
    return CONFIRMING


def ERROR(message):
    """Called when one of the functions above failed for good."""
    reply("Something went wrong here. Somebody will look at it; please write again.")
    return START
