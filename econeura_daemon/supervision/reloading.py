"""SIGHUP: what of new settings a running daemon takes over at once."""

import logging
from collections.abc import Callable

from econeura_daemon.core.settings import Settings
from econeura_daemon.core.settings_tree import Changes, changes
from econeura_daemon.webhooks import Lanes, Policies
from econeura_daemon.webhooks.sender import Sender
from econeura_daemon.wire import EgressGuard, GuardedTransport, Routes

_log = logging.getLogger(__name__)


class Reloader:
    """Holds the settings in force and hands new ones to those whom they concern."""

    def __init__(
        self,
        settings: Settings,
        *,
        policies: Policies,
        lanes: Lanes,
        sender: Sender,
        transport: GuardedTransport,
    ) -> None:
        self._settings = settings
        self._policies = policies
        self._lanes = lanes
        self._sender = sender
        self._transport = transport
        self._followers: list[Callable[[Settings], object]] = []

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    def follow(self, follower: Callable[[Settings], object]) -> None:
        """Have ``follower`` told of all settings that are taken over."""
        self._followers.append(follower)

    def apply(self, new: Settings) -> Changes:
        """Take over what can be; say in the log what was and what needs a restart."""
        found = changes(self._settings, new)
        webhooks = new.webhooks
        self._policies.use(webhooks)
        self._lanes.resize(webhooks.max_in_flight)
        self._sender.use(webhooks)
        if webhooks.allowed_networks != self._settings.webhooks.allowed_networks:
            self._transport.use(EgressGuard(webhooks.allowed_networks))  # closes what the old one let through
        self._transport.route(Routes.from_settings(webhooks))
        for follower in self._followers:
            follower(new)
        self._settings = new
        if found.live:
            _log.info("in force from now on: %s", ", ".join(found.live))
        if found.on_restart:
            _log.warning("needs a restart: %s", ", ".join(found.on_restart))
        if not (found.live or found.on_restart):
            _log.info("the settings are what they were")
        return found
