"""Random bits that are fetched in portions: as many as asked for, none twice, whoever asks."""

import threading

import pytest

from econeura_daemon.core import randomness
from econeura_daemon.core.randomness import BufferedSystemRandom


def test_numbers_have_as_many_bits_as_were_asked_for():
    rng = BufferedSystemRandom()
    for bits in (0, 1, 7, 53, 80, 128, 129, 1000):
        numbers = [rng.getrandbits(bits) for _ in range(300)]
        assert max(numbers) < 2**bits
        if bits >= 7:
            assert max(number >> (bits - 1) for number in numbers) == 1, "the highest bit is random too"
            assert {number & 1 for number in numbers} == {0, 1}
    assert all(0 <= rng.random() < 1 for _ in range(1000))


def test_a_negative_number_of_bits_is_refused():
    with pytest.raises(ValueError, match="non-negative"):
        BufferedSystemRandom().getrandbits(-1)


def test_threads_never_get_the_same_bits():
    rng = BufferedSystemRandom()
    taken: list[list[int]] = [[] for _ in range(8)]

    def take(mine):
        mine.extend(rng.getrandbits(128) for _ in range(5000))

    threads = [threading.Thread(target=take, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({number for mine in taken for number in mine}) == 8 * 5000


def test_one_system_call_serves_many_numbers(monkeypatch):
    calls = []
    monkeypatch.setattr(randomness, "urandom", lambda size: calls.append(size) or b"\x80" * size)
    rng = BufferedSystemRandom()
    assert [rng.getrandbits(80) for _ in range(256)] == [int("80" * 10, 16)] * 256
    assert calls == [4096]
