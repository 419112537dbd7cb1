import gc

from econeura_daemon.supervision.collecting import THRESHOLDS, collecting_seldom, keep_what_stands


def test_garbage_is_collected_seldom_and_what_stands_is_left_alone():
    before = gc.get_threshold()
    with collecting_seldom():
        stands = [[]]
        keep_what_stands()
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > 1000
        assert not any(found is stands for found in gc.get_objects())
        cycles = []
        gc.callbacks.append(lambda phase, told: cycles.append(told["collected"]))
        try:
            for _ in range(THRESHOLDS[0] + 1):
                loop = []
                loop.append(loop)
        finally:
            gc.callbacks.pop()
        assert max(cycles) > 1000  # garbage goes, later
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
