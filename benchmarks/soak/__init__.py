"""The soak: very many jobs at gateways where everything goes wrong now and then, and books that must balance."""
