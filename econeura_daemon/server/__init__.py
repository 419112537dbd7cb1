"""Listening sockets, HTTP/1.1 connections, and the rules that every route shares, one implementation each."""

from econeura_daemon.server.asgi import App, AsgiScope, Header, Message, Receive, Send
from econeura_daemon.server.connection import Drain, HttpTelemetry
from econeura_daemon.server.context import (
    ALL_SCOPES,
    Peer,
    Principal,
    RequestContext,
    Scope,
    ScopeOf,
)
from econeura_daemon.server.lifespan import LifespanError
from econeura_daemon.server.listeners import Listener, open_listeners
from econeura_daemon.server.problems import PROBLEMS, Problem, document, headers_of, send_problem
from econeura_daemon.server.requests import (
    FindPassage,
    HotFunction,
    HotRoute,
    HotRoutes,
    Passage,
    Request,
    Response,
    Streamed,
)
from econeura_daemon.server.serving import Server, open_server
from econeura_daemon.server.site import ServeConnection, Site
from econeura_daemon.server.tokens import Token, TokenFile, create_token, list_tokens, revoke_token

__all__ = [
    "ALL_SCOPES",
    "PROBLEMS",
    "App",
    "AsgiScope",
    "Drain",
    "FindPassage",
    "Header",
    "HotFunction",
    "HotRoute",
    "HotRoutes",
    "HttpTelemetry",
    "LifespanError",
    "Listener",
    "Message",
    "Passage",
    "Peer",
    "Principal",
    "Problem",
    "Receive",
    "Request",
    "RequestContext",
    "Response",
    "Scope",
    "ScopeOf",
    "Send",
    "ServeConnection",
    "Server",
    "Site",
    "Streamed",
    "Token",
    "TokenFile",
    "create_token",
    "document",
    "headers_of",
    "list_tokens",
    "open_listeners",
    "open_server",
    "revoke_token",
    "send_problem",
]
