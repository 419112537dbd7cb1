"""The workers' contract over HTTP: real mails in a real store, read by real processes."""

import pytest
import trio

from econeura_daemon.worker.mailstore import MailStore
from tests.support.worker_rig import invoice, open_rig

ONE, BULK = "/emails/process", "/emails/process/bulk"


def asking(message_id="<one@example.com>", **more):
    return {"messageId": message_id, "organizationId": "acme", **more}


async def test_a_mail_is_read_understood_filed_and_told_of(tmp_path):
    with trio.fail_after(60):
        async with open_rig(tmp_path, "one@example.com") as rig:
            answer = await rig.client.post(ONE, asking(priority="high", metadata={"from": "crm"}))
            assert answer.status == 200
            assert set(answer.document) == {"success", "data", "timestamp"}
            result = answer.data["result"]
            assert set(result) == {"processed", "action", "confidence", "metadata", "processingTime"}
            assert set(result["metadata"]) == {"category", "sentiment", "urgency", "language", "entities"}
            assert (result["processed"], result["action"]) == (True, "categorize")
            assert result["metadata"]["category"] == "invoice"
            assert result["metadata"]["language"] == "es"
            assert 0 < result["confidence"] <= 1

            assert [path.parent.parent.name for path in rig.mail.glob("**/1795514400*")] == [".invoice"]
            (event,) = await rig.events()
            assert (event["type"], event["source"]) == ("workers.email_processed", "workers")
            assert event["data"] == {
                "messageId": "<one@example.com>",
                "organizationId": "acme",
                "result": result,
                "workerId": rig.worker.worker_id,
            }
            health = (await rig.client.get("/health")).data
            assert (health["status"], health["service"]) == ("degraded", "econeura-worker")
            assert health["components"]["daemon"]["status"] == "degraded"  # nobody is there
            for name in ("database", "mail_store", "processors"):
                assert health["components"][name]["status"] == "healthy", name
            assert (await rig.client.get("/readyz")).status == 200
            metrics = (await rig.client.get("/metrics")).body.decode()
            assert "econeura_mails_read_total 1" in metrics


async def test_a_key_stands_for_one_processing_and_a_repeat_without_one_is_idempotent(tmp_path):
    with trio.fail_after(60):
        async with open_rig(tmp_path, "one@example.com") as rig:
            first = await rig.client.post(ONE, asking(), {"Idempotency-Key": "k"})
            again = await rig.client.post(ONE, asking(), {"Idempotency-Key": "k"})
            assert (again.data, again.headers["idempotent-replayed"]) == (first.data, "true")
            other = await rig.client.post(ONE, asking(priority="low"), {"Idempotency-Key": "k"})
            assert other.status == 422
            assert len(await rig.events()) == 1

            once_more = await rig.client.post(ONE, asking())  # without a key it is processed again
            assert once_more.data["result"]["metadata"] == first.data["result"]["metadata"]
            assert len(await rig.events()) == 2
            assert len(list(rig.mail.glob("**/1795514400*"))) == 1

            bulk = {"messageIds": ["<one@example.com>"], "organizationId": "acme"}
            first = await rig.client.post(BULK, bulk, {"Idempotency-Key": "k"})  # of another route
            again = await rig.client.post(BULK, bulk, {"Idempotency-Key": "k"})
            assert (again.data, again.headers["idempotent-replayed"]) == (first.data, "true")
            assert len(await rig.events()) == 3


async def test_of_a_bulk_each_mail_fares_by_itself_in_the_order_asked(tmp_path, monkeypatch):
    real = MailStore.read

    def read(store, message_id):
        if message_id == "bug@example.com":
            raise RuntimeError("a bug")
        return real(store, message_id)

    monkeypatch.setattr(MailStore, "read", read)
    ids = ["a@example.com", "gone@example.com", "bug@example.com", "b@example.com", "empty@example.com"]
    with trio.fail_after(60):
        async with open_rig(tmp_path, "a@example.com", "b@example.com", "bug@example.com") as rig:
            answer = await rig.client.post(BULK, {"messageIds": ids, "organizationId": "acme"})
            assert answer.status == 200
            results = answer.data["results"]
            assert [one["messageId"] for one in results] == ids
            assert [one["success"] for one in results] == [True, False, False, True, False]
            assert results[1]["error"] == "There is no mail 'gone@example.com'"
            assert results[2]["error"] == "A fault of the worker's: RuntimeError; see its log"
            told = [(event["type"], event["data"]["messageId"]) for event in await rig.events()]
            assert sorted(told) == [
                ("workers.email_processed", "a@example.com"),
                ("workers.email_processed", "b@example.com"),
                ("workers.error_occurred", "bug@example.com"),
            ]


async def test_every_mistake_of_a_request_is_told_at_once_and_nothing_is_done(tmp_path):
    with trio.fail_after(60):
        async with open_rig(tmp_path, "one@example.com") as rig:

            async def refused(path, body, **headers):
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                answer = await rig.client.post(path, body, named)
                document = answer.document
                return answer.status, [detail["path"] for detail in document["details"]], document

            status, paths, _ = await refused(ONE, {"messageId": "", "priority": "soon", "extra": 1})
            assert status == 400
            assert set(paths) == {"$.messageId", "$.organizationId", "$.priority", "$.extra"}
            status, paths, _ = await refused(BULK, {"messageIds": ["a", ""], "organizationId": "o"})
            assert (status, paths) == (400, ["$.messageIds[1]"])
            status, paths, _ = await refused(ONE, asking(), X_Organization_ID="other")
            assert (status, paths) == (400, ["X-Organization-ID"])
            for text in ("soon", "-1", "0", "1.5"):
                status, paths, _ = await refused(ONE, asking(), X_Timeout_Ms=text)
                assert (status, paths) == (400, ["X-Timeout-Ms"])
            status, _, document = await refused(ONE, asking("<nobody@example.com>"))
            assert (status, document["type"]) == (404, "/problems/message-not-found")
            assert await rig.events() == []
            assert (await rig.client.post("/v1/events", {"type": "workers.x", "data": {}})).status == 405


async def test_what_takes_longer_than_the_caller_waits_is_left_and_a_bulk_tells_what_was_done(
    tmp_path, monkeypatch
):
    real = MailStore.read

    def read(store, message_id):
        if message_id == "slow@example.com":
            trio.from_thread.run(trio.sleep, 1)
        return real(store, message_id)

    monkeypatch.setattr(MailStore, "read", read)
    with trio.fail_after(60):
        async with open_rig(tmp_path, "quick@example.com", "slow@example.com") as rig:
            ids = ["quick@example.com", "slow@example.com"]
            answer = await rig.client.post(
                BULK, {"messageIds": ids, "organizationId": "acme"}, {"X-Timeout-Ms": "700"}
            )
            assert [one["success"] for one in answer.data["results"]] == [True, False]
            assert [one.get("late") for one in answer.data["results"]] == [None, True]
            answer = await rig.client.post(ONE, asking("slow@example.com"), {"X-Timeout-Ms": "100"})
            assert (answer.status, answer.document["type"]) == (504, "/problems/upstream-timeout")


@pytest.mark.parametrize("kind", ["too large", "away"])
async def test_a_mail_that_cannot_be_processed_and_a_store_that_is_away_are_told_apart(tmp_path, kind):
    with trio.fail_after(60):
        async with open_rig(tmp_path, "one@example.com") as rig:
            (path,) = rig.mail.glob("new/*")
            if kind == "too large":
                path.write_bytes(invoice("one@example.com") + b"x" * (51 << 20))
                expected = (422, "/problems/mail-unprocessable")
            else:
                rig.mail.rename(tmp_path / "elsewhere")
                expected = (503, "/problems/mail-store-unavailable")
            answer = await rig.client.post(ONE, asking())
            assert (answer.status, answer.document["type"]) == expected
            assert answer.headers.get("retry-after") == (None if kind == "too large" else "5")
            (event,) = await rig.events()
            assert event["type"] == "workers.error_occurred"
            assert event["data"]["operation"] == "email_processing"
