"""A server that is asked by HTTP how it does, while it has much to hold and many to serve."""
