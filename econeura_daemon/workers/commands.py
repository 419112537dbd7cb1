"""What users ask of workers: the bodies of the API, checked."""

import enum
from typing import Any

import attrs

from econeura_daemon.core.jobs import check_job_id
from econeura_daemon.core.validators import each, length, matching
from econeura_daemon.workers.model import Priority

check_message_id = matching(
    r"[^\x00-\x1f\x7f\ud800-\udfff]{1,998}", "1 to 998 characters, none of them a control character"
)
"""RFC 5322 2.1.1: a line, and so a Message-ID, has at most 998."""
check_organization_id = matching(
    r"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?",
    "1 to 128 printable ASCII characters, no space at either end",
)
"""It is a header's value too."""


@attrs.frozen(kw_only=True)
class ProcessEmail:
    """The body of ``POST /v1/workers/emails/process``."""

    message_id: str = attrs.field(validator=check_message_id)
    organization_id: str = attrs.field(validator=check_organization_id)
    priority: Priority = Priority.NORMAL
    metadata: dict[str, Any] = attrs.field(factory=dict)


MOST = 10_000
"""E-mails of one bulk."""


@attrs.frozen(kw_only=True)
class ProcessBulk:
    """The body of ``POST /v1/workers/emails/process/bulk``."""

    message_ids: tuple[str, ...] = attrs.field(validator=[length(1, MOST), each(check_message_id)])
    organization_id: str = attrs.field(validator=check_organization_id)
    priority: Priority = Priority.NORMAL
    metadata: dict[str, Any] = attrs.field(factory=dict)


class CronAction(enum.StrEnum):
    """What is done with a job of the workers' own."""

    ENABLE = "enable"
    DISABLE = "disable"
    STATUS = "status"


@attrs.frozen(kw_only=True)
class ManageCron:
    """The body of ``POST /v1/workers/cron/manage``."""

    job_id: str = attrs.field(validator=check_job_id)
    action: CronAction
    organization_id: str = attrs.field(validator=check_organization_id)
