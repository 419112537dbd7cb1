"""The rules that every route shares: each one is a function of a request; `server.gate` applies them."""
