"""The library beside the clients of other video APIs, each against a gateway on loopback that speaks its dialect."""
