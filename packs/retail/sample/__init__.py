"""The retail pack's own sample: invented customers, goods, orders and requests in the shapes of the shop's files."""
