"""What a routed URL says: the brokers, how they are used, and options that go to each of them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from tranship.checks import invalid, not_negative, positive, whole
from tranship.errors import InvalidOptionError, InvalidURLError
from tranship.settings import BrokerURL

__all__ = ["RoutingOptions", "brokers_of", "explained"]


@dataclass(frozen=True, kw_only=True)
class RoutingOptions:
    """The router's own options; times are seconds. Every other option goes to all brokers.

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    weights: tuple[str, ...] = ()
    """Shares of the brokers, in their order (``round-robin``); 1 each unless given. Failover ignores them."""
    fail_back: float | None = 30.0
    """``failover``: return to a broker further up once it has been well for so long; none: never."""
    breaker_failures: int = 3
    """Failures in a row after which a broker is left alone; a lost connection is enough by itself."""
    breaker_pause: float = 0.5
    """How long it is left alone before it is asked whether it is back; twice as long each time ..."""
    breaker_longest_pause: float = 10.0
    """... up to this."""
    answer_timeout: float = 5.0
    """How long one broker may take to answer before the others go on without it."""
    unknown: Literal["republish", "tell"] = "republish"
    """What becomes of a submit whose answer was lost for good: given to another broker under the same id, which may
    run it twice; or told as SubmitUnknown."""
    unknown_patience: float = 2.0
    """How long such a submit waits for its broker to come back first. Together with ``answer_timeout`` less than
    the submit timeout."""

    def __post_init__(self) -> None:
        for name in ("breaker_pause", "breaker_longest_pause", "answer_timeout"):
            positive(name, getattr(self, name))
        whole("breaker_failures", self.breaker_failures)
        not_negative("unknown_patience", self.unknown_patience)
        if self.fail_back is not None:
            not_negative("fail_back", self.fail_back)

    @classmethod
    def read(cls, url: BrokerURL) -> RoutingOptions:
        """Return what ``url`` says of the router itself.

        Raises:
            InvalidOptionError: a value outside what is allowed.
        """
        given = {name: value for name, value in url.options.items() if _is_own(name)}
        if given.get("fail_back", given.get("fail-back")) == "never":
            given = {name: "none" if value == "never" else value for name, value in given.items()}
        return BrokerURL(scheme=url.scheme, options=given).options_as(cls)

    def weight(self, index: int) -> float:
        """The share of the broker at ``index``."""
        return float(self.weights[index]) if self.weights else 1.0


def brokers_of(url: BrokerURL, options: RoutingOptions) -> Sequence[BrokerURL]:
    """Return the brokers of a routed URL in their order, each with the options that are for all of them.

    Raises:
        InvalidURLError: it names none, or the same twice, or has something that belongs to a broker.
        InvalidOptionError: the weights do not fit.
    """
    if url.username or url.password or any(host for host, _ in url.hosts) or url.path.strip("/"):
        raise InvalidURLError(
            f"the broker URL {str(url)!r} has more than options; a user, a host or a path belongs to one of its "
            f"brokers: {url.scheme}://?1=redis://a/0&2=redis://b/0"
        )
    numbers = sorted(filter(_is_number, url.options), key=int)
    shared = _shared(url)
    found = [BrokerURL.parse(url.options[name]).with_options(**shared) for name in numbers]
    if not found:
        raise InvalidURLError(
            f"the broker URL {str(url)!r} names no brokers; number them: {url.scheme}://?1=redis://a/0&2=redis://b/0, "
            "or list them: 'redis://a/0 redis://b/0'"
        )
    _check_different(found)
    _check_weights(options.weights, len(found))
    return found


def explained(error: InvalidOptionError, url: BrokerURL) -> InvalidOptionError:
    """Return what to say of a broker that refuses an option: one that the router passed on may be its own, mistyped."""
    name = next((name for name in _shared(url) if repr(name) in str(error)), None)
    if name is None:
        return error
    own = {part.name for part in fields(RoutingOptions)}
    close = difflib.get_close_matches(name.replace("-", "_"), own, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    return InvalidOptionError(f"{error}; {guess}those of {url.scheme} itself are: {', '.join(sorted(own))}")


def _shared(url: BrokerURL) -> dict[str, str]:
    """The options that every broker gets."""
    return {name: value for name, value in url.options.items() if not _is_number(name) and not _is_own(name)}


def _is_own(name: str) -> bool:
    return any(part.name == name.replace("-", "_") for part in fields(RoutingOptions))


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _check_different(urls: Sequence[BrokerURL]) -> None:
    for index, one in enumerate(urls):
        if one in urls[:index]:
            raise InvalidURLError(f"the broker {str(one)!r} is listed twice; list it once, with a weight")


def _check_weights(weights: Sequence[str], count: int) -> None:
    if weights and len(weights) != count:
        raise invalid("weights", ",".join(weights), f"{count} numbers, one for each broker")
    for one in weights:
        try:
            positive("weights", float(one))
        except (ValueError, InvalidOptionError):
            raise invalid("weights", one, "a number above 0 for each broker") from None
