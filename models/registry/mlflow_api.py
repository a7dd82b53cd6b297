"""MLflow's REST API, bounded in time: a gone server costs seconds and one clear line.

MLflow's own client is not used here: with its defaults a gone server blocks a call for four
minutes, and with Feast installed its first call takes eight seconds of imports. What is written is
what the stock client and MLflow's pages read.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from models.errors import RegistryUnavailable

if TYPE_CHECKING:
    import httpx

REQUEST_TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 3.0
HEALTH_TIMEOUT_S = 5.0
CONNECT_RETRIES = 2
ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
NOT_FOUND = "RESOURCE_DOES_NOT_EXIST"


class MlflowRefused(RegistryUnavailable):
    """MLflow answered with an error.

    Parameters
    ----------
    code
        MLflow's error code, such as ``RESOURCE_DOES_NOT_EXIST``.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class MlflowApi:
    """Calls of one MLflow server.

    Parameters
    ----------
    url
        The server. User name and password in it, or MLflow's own environment variables
        ``MLFLOW_TRACKING_USERNAME``, ``MLFLOW_TRACKING_PASSWORD`` and ``MLFLOW_TRACKING_TOKEN``,
        are sent along.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._opened: httpx.Client | None = None

    def refuse_unreachable(self) -> None:
        """Ask the server whether it is well, before any work is done for it.

        Raises
        ------
        RegistryUnavailable
            If it does not answer within seconds.
        """
        self._send("GET", "/health", timeout=HEALTH_TIMEOUT_S)

    def close(self) -> None:
        """Close the connections; the next call opens others."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Read something, such as ``model-versions/search``; None in the query is left out."""
        params = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", path, params=params)

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Make or change something, such as ``runs/create``.

        Raises
        ------
        MlflowRefused
            If MLflow does not want to.
        RegistryUnavailable
            If MLflow does not answer in time.
        """
        return self._call("POST", path, json=body)

    def patch(self, path: str, **body: Any) -> dict[str, Any]:
        """Change something."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str, **body: Any) -> dict[str, Any]:
        """Remove something."""
        return self._call("DELETE", path, json=body)

    def pages(self, path: str, of: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Read all entries ``of`` a list that comes in pages."""
        token: str | None = None
        while True:
            page = self.get(path, page_token=token, **query)
            yield from page.get(of, [])
            token = page.get("next_page_token")
            if not token:
                return

    def upload(self, folder: Path, uri: str) -> None:
        """Upload all files of a folder below an artifact URI that the server hands out.

        Raises
        ------
        RegistryUnavailable
            If the artifacts lie elsewhere, or MLflow does not answer in time.
        """
        parts = urlsplit(uri)
        if parts.scheme != "mlflow-artifacts":
            raise RegistryUnavailable(
                f"MLflow keeps artifacts at {uri}; expected mlflow-artifacts:/…, so that they can "
                "be read over its REST API. Start it with --serve-artifacts."
            )
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = quote(f"{parts.path.strip('/')}/{path.relative_to(folder).as_posix()}")
                content = path.read_bytes()
                self._send("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{name}", content=content)

    def _call(self, verb: str, path: str, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._send(verb, f"/api/2.0/mlflow/{path}", **options).json()
        return answer

    def _send(self, verb: str, path: str, **options: Any) -> httpx.Response:
        import httpx

        try:
            response = self._client().request(verb, self.url + path, **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise RegistryUnavailable(
                f"MLflow at {self.url} does not answer ({reason}). Check that it runs "
                "(`make status`), then run this again; no model was half-registered."
            ) from error
        if response.is_error:
            raise self._refusal(path, response)
        return response

    def _refusal(self, path: str, response: httpx.Response) -> MlflowRefused:
        try:
            problem = dict(response.json())
        except ValueError:
            problem = {}
        message = problem.get("message") or response.reason_phrase
        return MlflowRefused(
            f"MLflow at {self.url} refused {path.removeprefix('/api/2.0/')} with "
            f"{response.status_code}: {' '.join(str(message).split())}",
            str(problem.get("error_code", "")),
        )

    def _client(self) -> httpx.Client:
        import httpx

        if self._opened is None:
            self._opened = httpx.Client(
                auth=_credentials(),
                timeout=httpx.Timeout(REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                transport=httpx.HTTPTransport(retries=CONNECT_RETRIES),
            )
            weakref.finalize(self, self._opened.close)
        return self._opened


def _credentials() -> Callable[[httpx.Request], httpx.Request] | tuple[str, str] | None:
    """What MLflow's own environment variables say."""
    token, user = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("TOKEN", "USERNAME"))
    if user:
        return user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    if not token:
        return None

    def bearer(request: httpx.Request) -> httpx.Request:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return bearer


def tags_of(tags: Mapping[str, Any]) -> list[dict[str, str]]:
    """Give a mapping as MLflow's list of keys and values."""
    return [{"key": name, "value": str(value)} for name, value in tags.items()]


def unless(code: str, call: Callable[[], Any]) -> Any:
    """Call; give None when MLflow refuses with this code."""
    try:
        return call()
    except MlflowRefused as error:
        if error.code != code:
            raise
        return None
