"""Whatever callers do at once, every answer is true and actions run in the order of the commits."""

import sqlalchemy as sa
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from econeura_daemon.core.errors import StoreBusyError
from econeura_daemon.storage.tables import meta
from tests.storage.works import keys, put, put_core

NAMES = st.sampled_from("abcdef")

CALL = st.tuples(
    st.sampled_from(["transact", "ingest"]),
    NAMES,
    st.sampled_from([put, put_core]),
    st.sampled_from(["succeeds", "raises", "reads and raises"]),
    st.one_of(st.none(), st.integers(0, 3)),  # after how many checkpoints the caller is cancelled
)


class RefusedError(Exception):
    pass


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(CALL, max_size=25), queue=st.integers(1, 5))
async def test_every_answer_is_true(database, calls, queue):
    committed, answers, undone = [], {}, []

    def work_of(number, name, insert, ending):
        def work(connection):
            if ending == "reads and raises":
                keys(connection)
                raise RefusedError
            insert(name)(connection)
            connection.after_commit(lambda: committed.append((number, name)))
            connection.on_rollback(lambda: undone.append(number))
            if ending == "raises":
                raise RefusedError
            return number

        return work

    async def call(number, how, name, insert, ending, patience):
        work = work_of(number, name, insert, ending)
        with trio.CancelScope() as scope:

            async def cancel():
                for _ in range(patience):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            async with trio.open_nursery() as nursery:
                if patience is not None:
                    nursery.start_soon(cancel)
                try:
                    answers[number] = await getattr(store, how)(work)
                except (RefusedError, sa.exc.IntegrityError, StoreBusyError) as error:
                    answers[number] = type(error)
                nursery.cancel_scope.cancel()

    async with database.open(queue=queue, patience=0.2) as store:
        async with trio.open_nursery() as nursery:
            for number, arguments in enumerate(calls):
                nursery.start_soon(call, number, *arguments)
        await store.ping()
        stored = await store.read(keys)
        told = store.statistics()
        await store.transact(lambda connection: connection.execute(sa.delete(meta)))

    assert stored == sorted(name for _, name in committed)  # each once: an action a commit
    succeeded = {number for number, _ in committed}
    for number, (_, name, _, ending, patience) in enumerate(calls):
        answer = answers.get(number)
        if answer == number:
            assert number in succeeded
        elif answer is RefusedError:
            assert ending != "succeeds"
            assert number not in succeeded
        elif answer is None:
            assert patience is not None  # cancelled: it happened, or not
        else:
            assert number not in succeeded
            assert answer is StoreBusyError or name in stored  # a conflict is with something that is there
    assert told.queued == 0
    assert told.trouble is None
