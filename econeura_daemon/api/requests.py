"""How Quart handles a request here: in the task that serves the connection.

Quart-Trio starts two tasks a request, one that reads the body and then waits for the client to leave, one
that runs the route. Our server notices itself that a client left, and cancels the route; so the body is read
first and the route runs in the same task, which makes a small route half again as fast.
"""

from typing import TYPE_CHECKING

import trio
from quart.wrappers import Response
from quart_trio.asgi import TrioASGIHTTPConnection

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable


class InTaskConnection(TrioASGIHTTPConnection):
    """One request of Quart's."""

    async def __call__(self, receive: "ASGIReceiveCallable", send: "ASGISendCallable") -> None:
        """Read the body, run the route, answer. The server bounds the body and the time that it takes."""
        asked = self._create_request_from_scope(send)
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return  # in process there is nobody to cancel this
            asked.body.append(message.get("body", b""))
            if not message.get("more_body", False):
                break
        asked.body.set_complete()
        response = await self.app.handle_request(asked)
        timeout = self.app.config["RESPONSE_TIMEOUT"]
        if isinstance(response, Response) and response.timeout is not Ellipsis:
            timeout = response.timeout
        with trio.move_on_after(float("inf") if timeout is None else float(timeout)):
            await self._send_response(send, response)
