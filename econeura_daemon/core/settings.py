"""The settings of the daemon: one tree of frozen values.

Every field carries its default and, in its name, its unit; `config/econeura.toml` lists them all with what
they mean. Reading them (TOML, environment, credentials) is `core.settings_sources`; here is what they are.
"""

import re
from ipaddress import IPv4Network, IPv6Network

import attrs

from econeura_daemon.core.allowing import EVERYTHING, check_entry
from econeura_daemon.core.errors import Flaw, InvalidInputError
from econeura_daemon.core.faults import NO_FAULTS, FaultSettings
from econeura_daemon.core.hosts import ascii_host, literal_address
from econeura_daemon.core.instances import ID, OWN_ID, InstanceBody, check_host, check_slug, check_type
from econeura_daemon.core.jobs import JobBody, check_job_id, check_task
from econeura_daemon.core.phrases import shortened
from econeura_daemon.core.settings_worker import WorkerSettings
from econeura_daemon.core.validators import at_least, between, choice, each, length, matching, optional

IpNetwork = IPv4Network | IPv6Network

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


CLEANUP_ID = "econeura-cleanup"
"""Of the cron job that the daemon declares itself."""
_RESERVED_TYPES = ("calls", "faults")
"""Path segments of the mesh's own routes, so no service types."""
_LONGEST_ADDRESS = 39
"""Characters, of IPv6."""

_check_bind = matching(
    r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):[0-9]{1,5}|unix:\S.*|fd://[0-9]+",
    "host:port, [IPv6]:port, unix:PATH or fd://N",
)


_check_host_pattern = matching(
    r"\*|(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|[0-9A-Fa-f:.]+",
    "a host's name, *.name for every host below it, or *",
)


def _check_proxy(_instance: object, _field: object, value: str) -> None:
    user = r"(?:[^\s/@:?#]+(?::[^\s/@:?#]*)?@)?"
    found = re.fullmatch(rf"http://{user}(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{{1,5}})/?", value)
    if found is None or not 1 <= int(found[1]) <= 65535:
        raise ValueError(
            f"expected http://host:port or http://user:password@host:port, got {shortened(value)!r}"
        )


@attrs.frozen(kw_only=True)
class DaemonSettings:
    """The process."""

    state_dir: str = ""
    """Where the SQLite file, keys and the lock live; empty: `settings_sources` finds it."""
    drain_timeout_ms: int = attrs.field(default=20 * SECOND, validator=between(0, HOUR))
    """How long a SIGTERM lets work finish."""


@attrs.frozen(kw_only=True)
class LogSettings:
    """What is logged, on standard error."""

    level: str = attrs.field(default="info", validator=choice("debug", "info", "warning", "error"))
    format: str = attrs.field(default="auto", validator=choice("auto", "json", "text"))
    """``auto``: text on a terminal, JSON lines elsewhere."""
    access: bool = False
    """One line a request."""


@attrs.frozen(kw_only=True)
class HttpSettings:
    """The daemon's own HTTP surface."""

    bind: tuple[str, ...] = attrs.field(
        default=("127.0.0.1:3001",), validator=[length(1, 64), each(_check_bind)]
    )
    """``host:port`` (port 0 allowed), ``unix:PATH`` or ``fd://N``; sockets passed by systemd win."""
    unix_socket_mode: str = attrs.field(
        default="0660", validator=matching(r"0?[0-7]{3}", "an octal file mode such as 0660")
    )
    allowed_hosts: tuple[str, ...] = ()
    """Further ``Host`` names, beside the bind's own and the loopback names."""
    allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may call the API (CORS); none by default."""
    max_body_bytes: int = attrs.field(default=1024 * 1024, validator=between(1024, 1024**3))
    max_connections: int = attrs.field(default=1000, validator=at_least(1))
    max_connections_per_peer: int = attrs.field(default=500, validator=at_least(1))
    """From one IPv4 address, or one IPv6 network of 64 bits; the unix socket's peers are not counted."""
    max_concurrent_requests: int = attrs.field(default=200, validator=at_least(1))
    """Requests handled at once; as many again may wait, beyond that 503 with ``Retry-After``."""
    head_timeout_ms: int = attrs.field(default=10 * SECOND, validator=at_least(100))
    """From the first byte of a request to the end of its head."""
    body_timeout_ms: int = attrs.field(default=30 * SECOND, validator=at_least(100))
    """From the end of a request's head to the end of its body."""
    keep_alive_timeout_ms: int = attrs.field(default=75 * SECOND, validator=at_least(100))
    """How long an idle connection is kept."""
    send_timeout_ms: int = attrs.field(default=20 * SECOND, validator=at_least(100))
    """How long a peer may take no byte of an answer before its connection is closed."""
    tls_certificate: str | None = None
    """Path of the certificate chain in PEM; with it the TCP listeners speak TLS, HTTP/1.1 and HTTP/2."""
    tls_key: str | None = None
    """Path of its private key; none: the certificate's file holds it too."""


@attrs.frozen(kw_only=True)
class StorageSettings:
    """Where events, deliveries and the rest are kept."""

    url: str = attrs.field(
        default="",
        repr=False,
        validator=matching(
            r"|sqlite:///.+|postgresql(?:\+psycopg)?://.*|postgres://.*", "sqlite:///PATH or postgresql://…"
        ),
    )
    """``sqlite:///PATH`` or ``postgresql://…``; empty: ``econeura.db`` in the state directory."""
    synchronous: str = attrs.field(default="full", validator=choice("full", "normal"))
    """SQLite: ``full`` survives a power cut, ``normal`` may lose the last commits in one."""
    readers: int = attrs.field(default=4, validator=between(1, 64))
    """Connections for reading."""
    queue: int = attrs.field(default=10_000, validator=at_least(1))
    """Works that may wait for the writer; beyond it callers wait, and ingest answers 503 after a moment."""
    max_bytes: int = attrs.field(default=0, validator=at_least(0))
    """SQLite: ingest answers 507 when the database has grown beyond this; 0: only the disk's end counts."""


@attrs.frozen(kw_only=True)
class AuthSettings:
    """Who may call."""

    required: bool = False
    """Tokens even on the loopback interface and the unix socket."""


@attrs.frozen(kw_only=True)
class RetrySettings:
    """When a failed delivery is tried again: with a delay exponentially, else as Standard Webhooks says."""

    max_attempts: int | None = attrs.field(default=None, validator=optional(between(1, 100)))
    """All attempts, the first included."""
    delay_ms: int | None = attrs.field(default=None, validator=optional(between(1, DAY)))
    """Before the second attempt; doubled from one attempt to the next, at most a day."""


@attrs.frozen(kw_only=True)
class WebhookSettings:
    """Deliveries to subscribers, and what comes in signed."""

    secret: str | None = attrs.field(default=None, repr=False, validator=optional(length(1, 4096)))
    """Verifies inbound webhooks and signs subscriptions that were created without a secret."""
    allowed_networks: tuple[IpNetwork, ...] = ()
    """What the egress guard lets through beside the public internet."""
    max_in_flight: int = attrs.field(default=512, validator=between(1, 10_000))
    """Attempts under way at once, over all subscriptions."""
    subscription_max_in_flight: int = attrs.field(default=10, validator=between(1, 1000))
    """Attempts under way at once for one subscription that does not say its own."""
    timeout_ms: int = attrs.field(default=15 * SECOND, validator=between(10, 10 * MINUTE))
    """One attempt, from look-up to the end of the answer."""
    connect_timeout_ms: int = attrs.field(default=5 * SECOND, validator=between(10, 10 * MINUTE))
    http2_hosts: tuple[str, ...] = attrs.field(default=(), validator=each(_check_host_pattern))
    """Hosts to which HTTP/2 is offered, under TLS: names, ``*.example.org``, ``*``."""
    proxy: str | None = attrs.field(default=None, repr=False, validator=optional(_check_proxy))
    """``http://[user:password@]host:port``: through whom ``proxy_hosts`` are called."""
    proxy_hosts: tuple[str, ...] = attrs.field(default=("*",), validator=each(_check_host_pattern))
    tolerance_ms: int = attrs.field(default=5 * MINUTE, validator=between(SECOND, DAY))
    """How far the timestamp of an inbound webhook may be off."""
    lease_ms: int = attrs.field(default=60 * SECOND, validator=between(2 * SECOND, HOUR))
    """PostgreSQL: how long a daemon that fell silent keeps its claims."""
    retry: RetrySettings = RetrySettings()


@attrs.frozen(kw_only=True)
class DiscoverySettings:
    """Service discovery."""

    enabled: bool = True
    heartbeat_interval_ms: int = attrs.field(default=10 * SECOND, validator=between(100, HOUR))
    """Of the daemon's own registration, whose lease lasts three of them; preserve mode counts in it."""
    health_check_interval_ms: int = attrs.field(default=30 * SECOND, validator=between(100, HOUR))
    """Between two probes of an instance that does not say its own."""
    max_services: int = attrs.field(default=20_000, validator=between(1, 1_000_000))
    """Instances that the registry holds; what the configuration declares is let in beyond it."""
    max_probes: int = attrs.field(default=256, validator=between(1, 10_000))
    """Probes that run at once."""
    resolve_interval_ms: int = attrs.field(default=30 * SECOND, validator=between(100, HOUR))
    """Between two look-ups of the names of services that say ``resolve``."""
    service_type: str = attrs.field(default="api", validator=check_type)
    """As what the daemon registers itself."""
    advertised_host: str | None = attrs.field(default=None, validator=optional(check_host))
    """Where it registers itself; none: at the first address that it listens on."""


@attrs.frozen(kw_only=True)
class MeshSettings:
    """Calls to services of one type; ``mesh.default`` is for all that have no section of their own."""

    timeout_ms: int = attrs.field(default=30 * SECOND, validator=between(1, HOUR))
    retries: int = attrs.field(default=3, validator=between(0, 10))
    circuit_breaker_threshold: int = attrs.field(default=5, validator=between(1, 1000))
    circuit_breaker_open_ms: int = attrs.field(default=60 * SECOND, validator=between(1, HOUR))
    try_timeout_ms: int | None = attrs.field(default=None, validator=optional(between(1, HOUR)))
    """One try of a call that may be repeated, and one connect of any; none: a third of the timeout."""
    max_concurrency: int = attrs.field(default=200, validator=between(1, 10_000))
    """Calls under way to one instance at most; the limit that is found out by itself stays within it."""
    max_waiting: int = attrs.field(default=100, validator=between(0, 10_000))
    """Calls that wait for one instance whose limit is reached."""
    balancer: str = attrs.field(
        default="least_cost",
        validator=choice(
            "least_cost",
            "round_robin",
            "weighted_round_robin",
            "random",
            "least_connections",
            "p2c",
        ),
    )
    allow: tuple[str, ...] = attrs.field(
        default=(EVERYTHING,), validator=[length(0, 1000), each(check_entry)]
    )
    """What may be asked for through the gateway; see `core.allowing`."""
    faults: FaultSettings = NO_FAULTS
    """What is injected into calls, for as long as it stands there."""


_MESH = MeshSettings()


@attrs.frozen(kw_only=True)
class WorkersSettings:
    """The integration with workers services; their timeouts and retries are ``mesh.<service_type>``."""

    service_type: str = attrs.field(default="workers", validator=check_type)
    max_waiting: int = attrs.field(default=1000, validator=between(0, 100_000))
    """Calls that wait for workers which have as much to do as they take."""
    max_wait_ms: int = attrs.field(default=10 * SECOND, validator=between(1, HOUR))
    """How long one of them waits for its turn at most."""
    bulk_timeout_ms: int = attrs.field(default=5 * MINUTE, validator=between(1, HOUR))
    """How long a whole bulk may take whose client waits for its end."""
    job_patience_ms: int = attrs.field(default=HOUR, validator=between(0, 30 * DAY))
    """How long a bulk job waits for workers while none is there, or none has time, before what is left of it fails."""


def _check_mesh(_instance: object, _field: object, value: dict[str, MeshSettings]) -> None:
    for service_type in value:
        if service_type in _RESERVED_TYPES:
            raise ValueError(f"{service_type!r} is reserved and no service type")
        check_slug(None, attrs.fields(WorkersSettings).service_type, service_type)


def _check_resolve(service: "ServiceSettings", _field: object, value: bool) -> None:  # noqa: FBT001 - the key's
    if value and literal_address(service.host) is not None:
        raise ValueError(f"only a name can be resolved, and {service.host!r} is an address")


@attrs.frozen(kw_only=True)
class ServiceSettings(InstanceBody):
    """A static service: an instance that the configuration declares, or one for each address of a name."""

    resolve: bool = attrs.field(default=False, validator=_check_resolve)
    """Look the host's addresses up, again and again; each is an instance."""

    @property
    def key(self) -> str:
        """Its id, the same from start to start also where none is given: made of type, host and port."""
        return self.id or f"{self.type}-{self.dns_name}-{self.port}"

    @property
    def dns_name(self) -> str:
        """Its host as the DNS has it, without the root's dot."""
        return ascii_host(self.host.lower()).removesuffix(".")

    def instance_id(self, address: str) -> str:
        """Return the id of the instance at one of its addresses, if it says ``resolve``."""
        return f"{self.key}-{address}"


def _check_services(_instance: object, _field: object, value: tuple[ServiceSettings, ...]) -> None:
    seen = {OWN_ID: "the daemon's own registration"}
    flaws = []
    for index, service in enumerate(value):
        longest = service.instance_id("f" * _LONGEST_ADDRESS) if service.resolve else service.key
        message = None
        if service.key in seen:
            origin = "" if service.id else " (made of type, host and port)"
            message = f"the id {service.key!r}{origin} is that of {seen[service.key]} already"
        elif ID.fullmatch(longest) is None:
            what = "an id" if service.id is None else "a shorter id"
            message = f"{what} is needed: with it, {longest!r} has more than 128 characters"
        if message is not None:
            flaws.append(Flaw(f"$[{index}].id", message))
        seen.setdefault(service.key, f"services[{index}]")
    if flaws:
        raise InvalidInputError(flaws)


@attrs.frozen(kw_only=True)
class CronJobSettings(JobBody):
    """A cron job that the configuration declares."""

    id: str | None = attrs.field(default=None, validator=optional(check_job_id))

    @property
    def key(self) -> str:
        """Its id, the same from start to start also where none is given: made of its name."""
        return self.id or re.sub(r"[^a-z0-9_.]+", "-", self.name.lower()).strip("-._")[:64]


def _check_jobs(_instance: object, _field: object, value: tuple[CronJobSettings, ...]) -> None:
    seen = {CLEANUP_ID: "the daemon's own job (cron.cleanup says when it is due)"}
    flaws = []
    for index, job in enumerate(value):
        if not job.key:
            flaws.append(Flaw(f"$[{index}].id", f"an id is needed: none can be made of {job.name!r}"))
        elif job.key in seen:
            origin = "" if job.id else " (made of its name)"
            flaws.append(
                Flaw(f"$[{index}].id", f"the id {job.key!r}{origin} is that of {seen[job.key]} already")
            )
        seen.setdefault(job.key, f"jobs[{index}]")
        try:
            check_task(None, None, job.action)
        except InvalidInputError as error:
            flaws += [Flaw(f"$[{index}].action{flaw.path[1:]}", flaw.message) for flaw in error.flaws]
    if flaws:
        raise InvalidInputError(flaws)


@attrs.frozen(kw_only=True)
class CronSettings:
    """Cron."""

    enabled: bool = True
    """Whether this daemon runs what is due; its API is there all the same."""
    max_running: int = attrs.field(default=64, validator=between(1, 10_000))
    """Runs under way at once, over all jobs."""
    lease_ms: int = attrs.field(default=30 * SECOND, validator=between(2 * SECOND, HOUR))
    """PostgreSQL: how long a daemon that fell silent keeps its runs."""
    keep_runs: int = attrs.field(default=200, validator=between(1, 1_000_000))
    """Of one job, about so many runs are kept in its history."""
    history_ms: int = attrs.field(default=30 * DAY, validator=between(MINUTE, 3650 * DAY))
    """How long a run is kept in it at most."""
    cleanup: str = attrs.field(default="17 * * * *", validator=length(0, 512))
    """When the daemon's own job `econeura-cleanup` forgets what is older than the settings say; empty: never."""
    jobs: tuple[CronJobSettings, ...] = attrs.field(default=(), validator=_check_jobs)
    """Declared jobs: only a file can say them."""


@attrs.frozen(kw_only=True)
class RetentionSettings:
    """How long what has come to its end is kept, from one ``cleanup`` to the next."""

    events_ms: int = attrs.field(default=90 * DAY, validator=between(MINUTE, 3650 * DAY))
    """Events, and deliveries; an event at least as long as a delivery of it."""
    attempts_ms: int = attrs.field(default=30 * DAY, validator=between(MINUTE, 3650 * DAY))
    """Of deliveries, with what was answered."""
    emails_ms: int = attrs.field(default=90 * DAY, validator=between(MINUTE, 3650 * DAY))
    """What became of e-mails."""


@attrs.frozen(kw_only=True)
class Settings:
    """Everything that can be set."""

    daemon: DaemonSettings = DaemonSettings()
    log: LogSettings = LogSettings()
    http: HttpSettings = HttpSettings()
    storage: StorageSettings = StorageSettings()
    auth: AuthSettings = AuthSettings()
    webhooks: WebhookSettings = WebhookSettings()
    discovery: DiscoverySettings = DiscoverySettings()
    mesh: dict[str, MeshSettings] = attrs.field(factory=dict, validator=_check_mesh)
    workers: WorkersSettings = WorkersSettings()
    worker: WorkerSettings = attrs.field(factory=WorkerSettings)
    cron: CronSettings = CronSettings()
    retention: RetentionSettings = RetentionSettings()
    services: tuple[ServiceSettings, ...] = attrs.field(default=(), validator=_check_services)
    """Static services: only a file can say them."""

    def mesh_of(self, service_type: str) -> MeshSettings:
        """Return how services of one type are called: as their own section says, else ``mesh.default``."""
        return self.mesh.get(service_type) or self.mesh.get("default") or _MESH
