"""Managing the cron jobs that workers have of their own."""

from typing import Any

import attrs

from econeura_daemon.core.errors import NotFoundError
from econeura_daemon.storage import Connection
from econeura_daemon.workers.calling import Asked, Calling, Told, WorkersFailedError
from econeura_daemon.workers.commands import CronAction, ManageCron
from econeura_daemon.workers.recording import Also, Recorder

MANAGED = "cron.managed"


@attrs.frozen(kw_only=True)
class Managed:
    """What is answered."""

    job_id: str
    action: CronAction
    told: Told

    def to_json(self) -> dict[str, Any]:
        """Return it as existing clients know it."""
        return {
            "jobId": self.job_id,
            "action": self.action.value,
            "result": self.told.data.get("job", self.told.data),
            "serviceId": self.told.service_id,
            "responseTime": self.told.milliseconds,
        }


class CronManagement:
    """Switches jobs of workers on and off, and asks how they are."""

    def __init__(self, calling: Calling, recorder: Recorder) -> None:
        self._calling = calling
        self._recorder = recorder

    async def manage(
        self,
        command: ManageCron,
        asked: Asked,
        *,
        key: str | None = None,
        trace: str | None = None,
        also: "Also[Managed] | None" = None,
    ) -> Managed:
        """Do it and record it. Raises `NotFoundError` where workers have no such job; else as `Emails.process`."""
        path = f"/cron/jobs/{command.job_id}"
        key = key or self._recorder.new_id("crn")
        try:
            if command.action is CronAction.STATUS:
                told = await self._calling.call("GET", path, asked, idempotency_key=key)
            else:
                told = await self._calling.call(
                    "POST", f"{path}/{command.action.value}", asked, body={}, idempotency_key=key
                )
        except WorkersFailedError as error:
            if error.status == 404:
                raise NotFoundError("cron job of workers with the id", command.job_id) from None
            raise
        managed = Managed(job_id=command.job_id, action=command.action, told=told)

        def written(connection: Connection) -> None:
            if also is not None:
                also(connection, managed)

        data = {**managed.to_json(), "organizationId": command.organization_id}
        await self._recorder.record([], [(MANAGED, data)], written, trace=trace)
        return managed
