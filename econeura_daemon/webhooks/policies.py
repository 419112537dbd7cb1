"""What holds for a subscription: what it says itself, else what the settings say."""

from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.webhooks.lanes import Standing
from econeura_daemon.webhooks.model import RetryPolicy, Subscription
from econeura_daemon.webhooks.schedule import default_policy


class Policies:
    """Answers for one subscription at a time; the settings behind it can be replaced while it is used."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._default = default_policy(settings.retry)

    def use(self, settings: WebhookSettings) -> None:
        """Answer from other settings from now on; deliveries that were written keep their ``max_attempts``."""
        self._settings = settings
        self._default = default_policy(settings.retry)

    @property
    def settings(self) -> WebhookSettings:
        """The settings in force."""
        return self._settings

    def retry(self, subscription: Subscription) -> RetryPolicy:
        """Return when failed deliveries of the subscription are tried again."""
        return subscription.retry_policy or self._default

    def max_attempts(self, subscription: Subscription) -> int:
        """Return how many attempts a delivery of the subscription has, the first included."""
        return 1 + self.retry(subscription).max_retries

    def max_in_flight(self, subscription: Subscription) -> int:
        """Return how many attempts to the subscription may be under way at once."""
        return subscription.max_in_flight or self._settings.subscription_max_in_flight

    @staticmethod
    def standing(subscription: Subscription) -> Standing:
        """Return what its record says of a subscription's receiver."""
        if subscription.failure_count > 0:
            return Standing.FAILING
        return Standing.FRESH if subscription.last_delivery_at is None else Standing.GOOD
