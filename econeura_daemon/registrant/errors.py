"""What can go wrong between a service and the daemon.

RegistrantError
├── ConfigurationError   address or token cannot be right
├── UnavailableError     no daemon answers, or not now: asking again may do
└── RefusedError         the daemon says no, and will again
"""


class RegistrantError(Exception):
    """Any of these; its text is a sentence."""


class ConfigurationError(RegistrantError):
    """The daemon's address or the token, as they were given, cannot be right."""


class UnavailableError(RegistrantError):
    """No daemon answers, or it cannot do it now."""


class RefusedError(RegistrantError):
    """The daemon refuses: the registration does not fit, or a token is missing or has not the scope."""

    def __init__(self, message: str, status: int) -> None:
        """``status``: of the HTTP answer."""
        super().__init__(message)
        self.status = status
