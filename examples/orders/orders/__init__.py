"""An order desk: what to buy is found out in a conversation."""
