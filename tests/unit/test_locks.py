"""Keyed locks: one holder a key, or one holder of everything, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from pluginkit.errors import Unavailable
from pluginkit.locks import Locks

PATIENCE_S = 10.0


class Holder:
    """A thread that takes a lock, says so, and keeps it until told to let go."""

    def __init__(self, pool: ThreadPoolExecutor, lock: AbstractContextManager[None]) -> None:
        self.has_it = threading.Event()
        self._let_go = threading.Event()
        self.done: Future[None] = pool.submit(self._hold, lock)

    def _hold(self, lock: AbstractContextManager[None]) -> None:
        with lock:
            self.has_it.set()
            assert self._let_go.wait(PATIENCE_S)

    def release(self) -> None:
        self._let_go.set()
        self.done.result(PATIENCE_S)


@pytest.fixture
def hold() -> Iterator[Callable[[AbstractContextManager[None]], Holder]]:
    """Start holders; at the end all of them let go and none may have failed."""
    holders: list[Holder] = []

    def start(lock: AbstractContextManager[None]) -> Holder:
        holders.append(Holder(pool, lock))
        return holders[-1]

    with ThreadPoolExecutor(8) as pool:
        yield start
        for holder in holders:
            holder.release()


def waits(holder: Holder) -> bool:
    return not holder.has_it.wait(0.1)


def test_a_key_has_one_holder_and_other_keys_are_free(hold) -> None:
    locks = Locks()
    first = hold(locks.hold("a"))
    assert first.has_it.wait(PATIENCE_S)
    second, other = hold(locks.hold("a")), hold(locks.hold("b"))
    assert other.has_it.wait(PATIENCE_S)
    assert waits(second)
    first.release()
    assert second.has_it.wait(PATIENCE_S)


def test_everything_waits_for_every_key_and_then_keeps_all_out(hold) -> None:
    locks = Locks()
    one = hold(locks.hold("a"))
    assert one.has_it.wait(PATIENCE_S)
    everything = hold(locks.hold_all())
    assert waits(everything)
    one.release()
    assert everything.has_it.wait(PATIENCE_S)
    another, again = hold(locks.hold("b")), hold(locks.hold_all())
    assert waits(another)
    assert waits(again)
    everything.release()
    again_first = again.has_it.wait(PATIENCE_S)
    again.release()
    assert again_first
    assert another.has_it.wait(PATIENCE_S)


def test_a_waiting_holder_of_everything_goes_before_newcomers(hold) -> None:
    locks = Locks()
    one = hold(locks.hold("a"))
    assert one.has_it.wait(PATIENCE_S)
    everything = hold(locks.hold_all())
    assert waits(everything)
    newcomer = hold(locks.hold("b"))
    assert waits(newcomer)
    one.release()
    assert everything.has_it.wait(PATIENCE_S)
    everything.release()
    assert newcomer.has_it.wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("held", "wanted", "names"),
    [
        ("hold", "hold", "k"),
        ("hold", "hold_all", "everything"),
        ("hold_all", "hold", "k"),
        ("hold_all", "hold_all", ""),
    ],
)
def test_waiting_ends_with_an_error_and_leaves_the_lock_usable(held: str, wanted: str, names: str) -> None:
    locks = Locks(timeout_s=0.05)
    take: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "hold": lambda: locks.hold("k"),
        "hold_all": locks.hold_all,
    }
    with take[held]():
        with pytest.raises(Unavailable, match=f"cannot start on {names}.*0.05 s"):
            with take[wanted]():
                pytest.fail("two holders")
    for name in ("hold", "hold_all", "hold"):
        with take[name]():
            pass


def test_a_timed_out_holder_of_everything_lets_the_waiting_go_on(hold) -> None:
    """Its wish alone keeps newcomers out; given up, it must wake them."""
    locks = Locks(timeout_s=0.3)
    one = hold(locks.hold("a"))
    assert one.has_it.wait(PATIENCE_S)
    with pytest.raises(Unavailable), locks.hold_all():
        pytest.fail("two holders")
    assert hold(locks.hold("b")).has_it.wait(PATIENCE_S)


def test_an_exception_inside_frees_the_lock() -> None:
    locks = Locks(timeout_s=0.05)
    for take in (lambda: locks.hold("a"), locks.hold_all, lambda: locks.hold("a")):
        with pytest.raises(ZeroDivisionError), take():
            raise ZeroDivisionError


def test_many_threads_never_meet_in_one_key() -> None:
    locks = Locks(timeout_s=60.0)
    inside = dict.fromkeys("abc", 0)
    rounds = 0

    def work(number: int) -> None:
        nonlocal rounds
        key = "abc"[number % 3]
        for turn in range(40):
            if turn % 20 == 0:
                with locks.hold_all():
                    assert set(inside.values()) == {0}
                    rounds += 1
            with locks.hold(key):
                inside[key] += 1
                assert inside[key] == 1
                inside[key] -= 1

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(work, range(24)))
    assert rounds == 48


def test_several_keys_are_taken_at_once_or_not_at_all(hold: Callable[[AbstractContextManager[None]], Holder]) -> None:
    locks = Locks(timeout_s=0.2)
    other = hold(locks.hold("b"))
    assert other.has_it.wait(PATIENCE_S)
    with pytest.raises(Unavailable, match="cannot start on a and b"), locks.hold("a", "b"):
        pass
    with locks.hold("a"):
        pass
    other.release()
    with locks.hold("a", "b"):
        for key in "ab":
            with pytest.raises(Unavailable), locks.hold(key):
                pass
    with locks.hold("a", "a"), pytest.raises(Unavailable), locks.hold("a"):
        pass
    with locks.hold_all():
        pass


def test_what_is_lent_comes_back_however_late(hold) -> None:
    locks = Locks(timeout_s=0.05)
    lent, back = threading.Event(), threading.Event()

    def lend() -> None:
        with locks.hold("a", "b"):
            with locks.lend("a"):
                lent.set()
                assert back.wait(PATIENCE_S)
            with pytest.raises(Unavailable), locks.hold("a"):
                pass

    with ThreadPoolExecutor(1) as pool:
        lender = pool.submit(lend)
        assert lent.wait(PATIENCE_S)
        with pytest.raises(Unavailable), locks.hold("b"):
            pass
        other = hold(locks.hold("a"))
        assert other.has_it.wait(PATIENCE_S)
        back.set()
        time.sleep(0.2)
        assert not lender.done()
        other.release()
        lender.result(PATIENCE_S)
    with locks.hold_all():
        pass


def test_who_holds_one_key_for_long_keeps_others_out_of_theirs_for_a_turn_alone(hold) -> None:
    locks = Locks(timeout_s=PATIENCE_S, turn_s=0.2)
    slow = hold(locks.hold("slow"))
    assert slow.has_it.wait(PATIENCE_S)
    everything = hold(locks.hold_all())
    assert waits(everything)
    for _ in range(3):
        before = time.monotonic()
        with locks.hold("quick"):
            assert time.monotonic() - before < 2
        assert not everything.has_it.is_set()
        time.sleep(0.25)
    slow.release()
    assert everything.has_it.wait(PATIENCE_S)
