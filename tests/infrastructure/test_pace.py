import time

from infrastructure.pace import Pace


def test_rest_is_in_proportion_to_the_work():
    pace, worked_from = Pace(rest_share=3.0), time.thread_time()
    while time.thread_time() < worked_from + 0.02:
        pass
    begin = time.perf_counter()
    pace.rest()
    assert time.perf_counter() - begin >= 0.06
