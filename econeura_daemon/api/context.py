"""The present request as the server's layers know it."""

from quart import request

from econeura_daemon.server import RequestContext


def request_context() -> RequestContext:
    """Return what the server's layers found out about the present request."""
    return RequestContext.of(request.scope)  # type: ignore[arg-type]


def trace_of(context: RequestContext) -> str | None:
    """Return the trace context as events keep it: ``traceparent``, and ``tracestate`` behind a newline."""
    if context.traceparent is None or context.tracestate is None:
        return context.traceparent
    return f"{context.traceparent}\n{context.tracestate}"
