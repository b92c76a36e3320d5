"""What one client may use, counted by a clock that the test holds."""

import pytest

from web.limits import Limits
from web.problems import RefusedError
from web.settings import WebSettings


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(clock: Clock, **settings: int) -> Limits:
    return Limits(WebSettings(**settings), clock)


def test_an_allowance_is_spent_and_refills_evenly(clock: Clock) -> None:
    limits = make(clock, requests_per_minute=6)
    for _ in range(6):
        limits.spend("a")
    with pytest.raises(RefusedError, match="at most 6 requests a minute are allowed; try again in 10 s") as refused:
        limits.spend("a")
    assert (refused.value.code, refused.value.headers) == ("rate_limited", {"Retry-After": "10"})
    clock.now += 10
    limits.spend("a")
    with pytest.raises(RefusedError):
        limits.spend("a")


def test_clients_do_not_spend_each_others_allowance(clock: Clock) -> None:
    limits = make(clock, requests_per_minute=1)
    limits.spend("a")
    limits.spend("b")


def test_a_request_for_many_texts_spends_as_many(clock: Clock) -> None:
    limits = make(clock, requests_per_minute=10)
    limits.spend("a", 8)
    with pytest.raises(RefusedError):
        limits.spend("a", 3)


def test_a_request_larger_than_the_allowance_needs_all_of_it_and_is_not_refused_for_ever(clock: Clock) -> None:
    limits = make(clock, requests_per_minute=4)
    limits.spend("a", 100)
    with pytest.raises(RefusedError):
        limits.spend("a")


def test_the_owner_and_a_rate_of_zero_are_not_limited(clock: Clock) -> None:
    for limits, client in ((make(clock, requests_per_minute=1), None), (make(clock, requests_per_minute=0), "a")):
        for _ in range(100):
            limits.spend(client)


def test_streams_at_once_are_counted_and_given_back(clock: Clock) -> None:
    limits = make(clock, streams_per_client=2)
    with limits.stream("a"), limits.stream("a"):
        with pytest.raises(RefusedError, match="at most 2 streams may be open at once"), limits.stream("a"):
            pass
        with limits.stream("b"):
            pass
    with limits.stream("a"):
        pass


def test_sockets_are_counted_by_client_and_in_all(clock: Clock) -> None:
    limits = make(clock, sockets_per_client=1, max_sockets=2)
    with limits.socket("a"):
        with pytest.raises(RefusedError, match="at most 1 connections may be open"), limits.socket("a"):
            pass
        with limits.socket(None), pytest.raises(RefusedError, match="all 2 connections are taken"), limits.socket("b"):
            pass
    with limits.socket("a"):
        pass
