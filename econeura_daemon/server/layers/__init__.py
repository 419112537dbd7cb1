"""The rules that every route shares, each an ASGI application around the next; `stack` orders them."""
