"""Turns are a courtesy: nothing waits for ever."""

import threading

from agent.executor.restore.turn import Turn


def test_one_at_a_time():
    turn, at_work, most = Turn(60.0), [], []

    def work() -> None:
        with turn.taken():
            at_work.append(1)
            most.append(len(at_work))
            at_work.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [1] * 8 == most


def test_who_has_waited_goes_on_and_the_turn_is_still_the_others():
    turn = Turn(0.01)
    with turn.taken():
        with turn.taken():
            pass
        assert turn._free.locked()
    assert not turn._free.locked()
