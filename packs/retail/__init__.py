"""The retail domain: a shop whose customers return, exchange, cancel and change orders."""
