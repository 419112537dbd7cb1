"""JSON Schemas: of request bodies made from their attrs classes, of answers written down here.

A test holds the answers of every route against these.
"""

import enum
from collections.abc import Mapping
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import attrs

from econeura_daemon.core.instances import CheckKind
from econeura_daemon.core.jobs import CONTRACT, DstFold, DstGap, Misfire, Overlap
from econeura_daemon.core.structuring import Unset, key_of
from econeura_daemon.cron.model import RunStatus, RunTrigger
from econeura_daemon.probes.model import Outcome
from econeura_daemon.registry.model import Status
from econeura_daemon.webhooks.model import AttemptStatus, DeliveryStatus, Trigger
from econeura_daemon.workers.model import EmailStatus, JobStatus, Priority

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
INSTANT: Schema = {"type": "string", "format": "date-time"}
MS: Schema = {"type": "integer", "minimum": 0, "description": "Milliseconds."}
ANY_OBJECT: Schema = {"type": "object"}
STRINGS: Schema = {"type": "object", "additionalProperties": STRING}


def nullable(schema: Schema) -> Schema:
    """Allow null too."""
    return {"anyOf": [schema, {"type": "null"}]}


def listed(schema: Schema) -> Schema:
    """A list of such."""
    return {"type": "array", "items": schema}


def obj(**properties: Schema) -> Schema:
    """An object with these keys, all of them, and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def maybe(schema: Schema, *names: str) -> Schema:
    """Let these keys of an object be absent."""
    return {**schema, "required": [name for name in schema["required"] if name not in names]}


def values_of(kind: type[enum.Enum]) -> Schema:
    """One of an enum's values."""
    return {"type": "string", "enum": [member.value for member in kind]}


def ref(name: str) -> Schema:
    """Point at a named schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(schema: Schema) -> Schema:
    """A page of a list."""
    return obj(items=listed(schema), nextCursor=nullable(STRING))


def whole_list_of(schema: Schema) -> Schema:
    """A list that is never paged."""
    return obj(items=listed(schema), nextCursor={"type": "null"})


def envelope(data: Schema) -> Schema:
    """What every success is wrapped in."""
    return obj(success=BOOLEAN, data=data, timestamp=INSTANT)


RETRY_POLICY = maybe(
    obj(
        maxRetries=COUNT,
        retryDelay=MS,
        backoffMultiplier=NUMBER,
        maxDelay=MS,
        schedule=nullable(listed(MS)),
    ),
    "schedule",
)

ENDPOINT = obj(endpoint=STRING, method=STRING, description=STRING, requiresAuth=BOOLEAN)
CHECK = maybe(
    obj(
        kind=values_of(CheckKind),
        path=STRING,
        intervalMs=MS,
        timeoutMs=MS,
        unhealthyAfter=COUNT,
        healthyAfter=COUNT,
    ),
    "path",
)

BULK_JOB = obj(
    id=STRING,
    status=values_of(JobStatus),
    total=COUNT,
    done=COUNT,
    successful=COUNT,
    failed=COUNT,
    organizationId=STRING,
    priority=values_of(Priority),
    createdAt=INSTANT,
    startedAt=nullable(INSTANT),
    finishedAt=nullable(INSTANT),
)

COMPONENTS: Mapping[str, Schema] = {
    "Service": maybe(
        obj(
            id=STRING,
            name=STRING,
            type=STRING,
            host=STRING,
            port=INTEGER,
            scheme=STRING,
            version=nullable(STRING),
            status=values_of(Status),
            statusReason=STRING,
            tags=listed(STRING),
            metadata=ANY_OBJECT,
            weight=INTEGER,
            ttlMs=nullable(MS),
            check=nullable(CHECK),
            deregisterAfterMs=MS,
            lastHeartbeat=nullable(INSTANT),
            registeredAt=INSTANT,
            stale=BOOLEAN,
            static=BOOLEAN,
            endpoints=listed(ref("Endpoint")),
            lastProbe=nullable(
                obj(at=INSTANT, result=values_of(Outcome), detail=STRING, durationMs=MS, output=STRING)
            ),
        ),
        "stale",
        "static",
        "endpoints",
        "lastProbe",
    ),
    "Endpoint": ENDPOINT,
    "FoundEndpoint": obj(serviceId=STRING, type=STRING, status=values_of(Status), **ENDPOINT["properties"]),
    "DiscoveryStats": obj(
        totalServices=COUNT,
        healthyServices=COUNT,
        unhealthyServices=COUNT,
        unknownServices=COUNT,
        drainingServices=COUNT,
        staleServices=COUNT,
        servicesByType={"type": "object", "additionalProperties": COUNT},
        totalEndpoints=COUNT,
        watchers=COUNT,
        preserveMode=BOOLEAN,
        index=COUNT,
    ),
    "Event": obj(id=STRING, type=STRING, data=ANY_OBJECT, timestamp=INSTANT, source=STRING, version=STRING),
    "Published": obj(id=STRING, deliveries=COUNT),
    "PublishedBefore": obj(
        id=STRING,
        type=STRING,
        data=ANY_OBJECT,
        timestamp=INSTANT,
        source=STRING,
        version=STRING,
        deliveries=COUNT,
        duplicate=BOOLEAN,
    ),
    "Subscription": maybe(
        obj(
            id=STRING,
            url=STRING,
            events=listed(STRING),
            secret=STRING,
            active=BOOLEAN,
            description=nullable(STRING),
            headers=STRINGS,
            retryPolicy=nullable(RETRY_POLICY),
            maxInFlight=nullable(INTEGER),
            disabledReason=nullable(STRING),
            failureCount=COUNT,
            lastDelivery=nullable(INSTANT),
            createdAt=INSTANT,
            updatedAt=INSTANT,
            warnings=listed(STRING),
        ),
        "warnings",
    ),
    "Delivery": obj(
        id=STRING,
        eventId=STRING,
        eventType=STRING,
        subscriptionId=STRING,
        url=STRING,
        status=values_of(DeliveryStatus),
        attempts=COUNT,
        maxAttempts=COUNT,
        nextAttemptAt=nullable(INSTANT),
        createdAt=INSTANT,
        lastAttemptAt=nullable(INSTANT),
        lastError=nullable(STRING),
        responseCode=nullable(INTEGER),
        responseTime=nullable(MS),
    ),
    "Attempt": obj(
        id=STRING,
        number=COUNT,
        trigger=values_of(Trigger),
        status=values_of(AttemptStatus),
        startedAt=INSTANT,
        durationMs=nullable(MS),
        statusCode=nullable(INTEGER),
        error=nullable(STRING),
        responseHeaders=nullable(STRINGS),
        responseBody=nullable(STRING),
    ),
    "Job": obj(
        id=STRING,
        name=STRING,
        schedule=STRING,
        timeZone=STRING,
        enabled=BOOLEAN,
        action=ANY_OBJECT,
        overlap=values_of(Overlap),
        misfire=values_of(Misfire),
        misfireWindowMs=MS,
        jitterMs=MS,
        timeoutMs=MS,
        retries=COUNT,
        dstGap=values_of(DstGap),
        dstFold=values_of(DstFold),
        pauseAfterFailures=nullable(COUNT),
        declared=BOOLEAN,
        disabledReason=nullable(STRING),
        runCount=COUNT,
        errorCount=COUNT,
        missedCount=COUNT,
        skippedCount=COUNT,
        lateCount=COUNT,
        lastRun=nullable(INSTANT),
        lastStatus=nullable(values_of(RunStatus)),
        nextRun=nullable(INSTANT),
        nextRuns=listed(INSTANT),
        createdAt=INSTANT,
        updatedAt=INSTANT,
    ),
    "Run": obj(
        id=STRING,
        jobId=STRING,
        trigger=values_of(RunTrigger),
        scheduledFor=INSTANT,
        startedAt=nullable(INSTANT),
        finishedAt=nullable(INSTANT),
        status=values_of(RunStatus),
        attempt=COUNT,
        output=nullable(STRING),
        error=nullable(STRING),
    ),
    "WebhookStats": {
        **obj(
            totalSubscriptions=COUNT,
            activeSubscriptions=COUNT,
            totalDeliveries=COUNT,
            pendingDeliveries=COUNT,
            failedDeliveries=COUNT,
            deliveredDeliveries=COUNT,
        ),
        "additionalProperties": COUNT,
    },
    "Email": obj(
        id=STRING,
        messageId=STRING,
        organizationId=STRING,
        priority=values_of(Priority),
        status=values_of(EmailStatus),
        result=nullable(ANY_OBJECT),
        error=nullable(STRING),
        serviceId=nullable(STRING),
        responseTime=MS,
        jobId=nullable(STRING),
        recordedAt=INSTANT,
    ),
    "BulkJob": BULK_JOB,
    "BulkJobWithResults": {
        **BULK_JOB,
        "properties": {**BULK_JOB["properties"], "results": page_of(ANY_OBJECT)},
        "required": [*BULK_JOB["required"], "results"],
    },
    "CronStats": obj(
        totalJobs=COUNT,
        enabledJobs=COUNT,
        declaredJobs=COUNT,
        runningRuns=COUNT,
        queuedRuns=COUNT,
        runCount=COUNT,
        errorCount=COUNT,
        missedCount=COUNT,
        skippedCount=COUNT,
        lateCount=COUNT,
        nextRun=nullable(INSTANT),
    ),
    "Problem": {
        **maybe(
            obj(
                type=STRING,
                title=STRING,
                status=INTEGER,
                detail=STRING,
                instance=STRING,
                success=BOOLEAN,
                error=STRING,
                details=listed(obj(path=STRING, message=STRING)),
                timestamp=INSTANT,
                messageId=STRING,
                jobId=STRING,
            ),
            "messageId",
            "jobId",
        ),
        "description": "RFC 9457, with the members that clients of the inherited API read.",
        "additionalProperties": True,
    },
}
"""The named schemas of the document."""


def delivery_with_log() -> Schema:
    """A single delivery, with its attempts."""
    delivery = COMPONENTS["Delivery"]
    return obj(**delivery["properties"], attemptLog=listed(ref("Attempt")))


def schema_of(kind: Any) -> Schema:
    """Return the schema of a type that `core.structuring` reads."""
    simple = {
        str: STRING,
        int: INTEGER,
        bool: BOOLEAN,
        float: NUMBER,
        datetime: INSTANT,
        Any: {},
        NoneType: {"type": "null"},
    }
    if kind in simple:
        return dict(simple[kind])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return listed(schema_of(arguments[0]))
    if origin in {dict, Mapping}:
        return (
            ANY_OBJECT
            if arguments[1] is Any
            else {"type": "object", "additionalProperties": schema_of(arguments[1])}
        )
    if origin in {Union, UnionType}:
        given = [schema_of(argument) for argument in arguments if argument is not Unset]
        return given[0] if len(given) == 1 else {"anyOf": given}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return values_of(kind)
    return _schema_of_class(kind)


def patch_schema_of(cls: type) -> Schema:
    """Return the schema of a patch (RFC 7396) to what ``cls`` describes."""
    schema = _schema_of_class(cls)
    properties = {
        name: {key: value for key, value in member.items() if key != "default"}
        for name, member in schema["properties"].items()
    }
    return {**schema, "properties": properties, "required": []}


def _schema_of_class(cls: type) -> Schema:
    fields = attrs.fields(attrs.resolve_types(cls))
    schema: Schema = {
        "type": "object",
        "properties": {key_of(field.name): _schema_of_field(field) for field in fields},
        "required": [key_of(field.name) for field in fields if field.default is attrs.NOTHING],
        "additionalProperties": False,
    }
    if cls.__doc__:
        schema["description"] = " ".join(cls.__doc__.split())
    return schema


def _schema_of_field(field: "attrs.Attribute[Any]") -> Schema:
    schema = schema_of(field.metadata.get(CONTRACT, field.type))
    if isinstance(field.default, str | int | float) and not isinstance(field.default, enum.Enum):
        schema = {**schema, "default": field.default}
    return schema
