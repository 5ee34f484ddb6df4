"""Virtual worlds: gateways with limits, clients that meet them, and what the best of all clients could do."""
