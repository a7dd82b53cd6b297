"""Asking an API until it answers: time limits, tries again with growing random waits, a secret."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from configs.sources import HttpReading
from feature_store.errors import SourceError

if TYPE_CHECKING:
    import httpx

FIRST_WAIT_S = 0.5
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500


class ApiClient:
    """Gets JSON from the API of a source.

    Parameters
    ----------
    config
        Time limits, tries, and the name of the variable that holds the secret.
    environment
        Where that variable is.
    sleep, chance
        Wait so many seconds; a number in [0, 1).

    Raises
    ------
    SourceError
        If the variable is not set.
    """

    def __init__(
        self,
        config: HttpReading,
        environment: Mapping[str, str],
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        import httpx

        self.config = config
        self._sleep, self._chance = sleep, chance
        self._origin = _origin(httpx.URL(config.url))
        self._client = httpx.Client(
            timeout=config.timeout_s, headers=_headers(config, environment), follow_redirects=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, url: httpx.URL) -> tuple[Any, str | None]:
        """The JSON at an address, and the next page's address where the header Link has one.

        Raises
        ------
        SourceError
            If it refuses, or fails each time; the message has the address without its query.
        """
        import httpx

        if _origin(url) != self._origin:
            raise SourceError(
                f"{shown(self.config.url)} goes on at another server, {shown(url)}; it is not "
                "asked, since it would be told the secret."
            )
        problem, wait_s = "", 0.0
        for number in range(self.config.max_tries):
            self._sleep(wait_s)
            try:
                answer = self._client.get(url)
            except (httpx.TransportError, httpx.DecodingError) as error:
                problem, asked_s = f"{type(error).__name__} {error}".strip(), None
            else:
                if answer.is_success:
                    return _json(answer), answer.links.get("next", {}).get("url")
                problem, asked_s = _refusal(answer)
            wait_s = self._wait_s(number, asked_s)
        raise SourceError(
            f"{shown(url)} failed {self.config.max_tries} times, the last time with: {problem}. "
            "Nothing was written; run again when it answers."
        )

    def _wait_s(self, number: int, asked_s: float | None) -> float:
        """Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/."""
        longest = self.config.max_wait_s
        backoff = self._chance() * min(longest, FIRST_WAIT_S * 2**number)
        return backoff if asked_s is None else min(longest, asked_s)


def shown(url: object) -> str:
    """An address as messages show it: without a query, which may hold a secret."""
    import httpx

    return str(httpx.URL(str(url)).copy_with(query=None, fragment=None, userinfo=b""))


def _headers(config: HttpReading, environment: Mapping[str, str]) -> dict[str, str]:
    headers = {"Accept": "application/json"}
    if config.auth_env is not None:
        secret = environment.get(config.auth_env, "").strip()
        if not secret:
            raise SourceError(
                f"The variable {config.auth_env} is not set; 'auth_env' says that it holds the "
                f"secret for {shown(config.url)}."
            )
        if not (secret.isascii() and secret.isprintable()):
            raise SourceError(f"The variable {config.auth_env} holds what no header may: one line.")
        headers[config.auth_header] = f"{config.auth_scheme} {secret}".strip()
    return headers


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise SourceError(
            f"{shown(answer.url)} did not answer with JSON but with "
            f"{answer.headers.get('content-type', 'an unknown type')}: {error}."
        ) from error


def _refusal(answer: httpx.Response) -> tuple[str, float | None]:
    """What went wrong, and how long the server asks to wait.

    Raises
    ------
    SourceError
        If trying again would not help.
    """
    status = f"{answer.status_code} {answer.reason_phrase}".strip()
    if answer.status_code != TOO_MANY_REQUESTS and answer.status_code < SERVER_ERROR:
        raise SourceError(
            f"{shown(answer.url)} answered {status}. Check the address and, in the variable that "
            "'auth_env' names, the secret."
        )
    return status, _retry_after_s(answer.headers.get("retry-after"), datetime.now(UTC))


def _retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds to wait by the header Retry-After: a number of seconds or a date.

    Examples
    --------
    >>> _retry_after_s("120", datetime(2026, 1, 5, tzinfo=UTC))
    120.0
    >>> _retry_after_s("Mon, 05 Jan 2026 00:00:30 GMT", datetime(2026, 1, 5, tzinfo=UTC))
    30.0
    """
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        return None
