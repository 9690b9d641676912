"""Prometheus' HTTP API over samples scraped from the mesh: the endpoints and the shapes of answer that
clients rely on.

What is scraped and when is the world's business (`scrape`); which queries are answered stands in `promql.py`.
An outage takes both: while it is down nothing is scraped, and afterwards there is a gap, as with the real
one.
"""

import asyncio
import base64
import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from canaryd_sandbox.kubernetes.deployment_controller import UNIT_SECONDS
from canaryd_sandbox.mesh.mesh import Mesh
from canaryd_sandbox.prometheus.promql import QueryError, Row, Samples, evaluate, parse
from canaryd_sandbox.server import Faults, Receive, Scope, Send, Server

MOST_POINTS = 11_000  # of a range query, per series: Prometheus' own limit
TENANT = "X-Scope-OrgID"


class PrometheusFaults(Faults):
    """What can go wrong with a Prometheus besides its connection.

    `partial`: answers carry warnings, as Thanos' and Mimir's do when a store does not answer.
    `basic`, `bearer`, `tenant`: who does not bring this gets 401; (user, password), a token, a tenant's name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.partial = False
        self.basic: tuple[str, str] | None = None
        self.bearer: str | None = None
        self.tenant: str | None = None

    def clear(self) -> None:
        super().clear()
        self.partial, self.basic, self.bearer, self.tenant = False, None, None, None

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers (names in lower case) is let in."""
        sent = headers.get("authorization", "")
        basic = "Basic " + base64.b64encode(":".join(self.basic).encode()).decode() if self.basic else sent
        bearer = f"Bearer {self.bearer}" if self.bearer else sent
        return sent == basic == bearer and (self.tenant is None or headers.get(TENANT.lower()) == self.tenant)


class PrometheusApi:
    """The API as an ASGI application over samples."""

    def __init__(self, samples: Samples, faults: PrometheusFaults, clock: Callable[[], float]) -> None:
        self._samples, self._faults, self._clock = samples, faults, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await (await self._respond(request))(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path = request.url.path
        if path in ("/-/ready", "/-/healthy"):
            return PlainTextResponse("Prometheus Server is Ready.\n")
        if not self._faults.admits(request.headers):
            return PlainTextResponse("Unauthorized\n", 401)
        parameters = dict(request.query_params)
        if request.method == "POST":
            parameters |= dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        try:
            if path == "/api/v1/query":
                data: Any = await asyncio.to_thread(self._query, parameters)
            elif path == "/api/v1/query_range":
                data = await asyncio.to_thread(self._query_range, parameters)
            elif path == "/api/v1/labels":
                data = sorted(self._samples.names())
            elif path == "/api/v1/status/buildinfo":
                data = {
                    "version": "3.0.0-sandbox",
                    "revision": "",
                    "branch": "",
                    "buildUser": "",
                    "buildDate": "",
                    "goVersion": "",
                }
            else:
                return PlainTextResponse("404 page not found\n", 404)
        except QueryError as error:
            kind = "bad_data" if error.code == 400 else "execution"
            return JSONResponse({"status": "error", "errorType": kind, "error": str(error)}, error.code)
        answer = {"status": "success", "data": data}
        if self._faults.partial:
            answer["warnings"] = ["some of the stores did not answer: the result is partial"]
        return JSONResponse(answer)

    def _query(self, parameters: Mapping[str, str]) -> Any:
        query = parse(parameters.get("query", ""))
        at = moment(parameters.get("time") or str(self._clock()), "time")
        rows = evaluate(self._samples, query, [at])
        if query.raw:
            return {"resultType": "matrix", "result": _matrix(rows)}
        return {
            "resultType": "vector",
            "result": [{"metric": labels, "value": _point(*points[0])} for labels, points in rows],
        }

    def _query_range(self, parameters: Mapping[str, str]) -> Any:
        query = parse(parameters.get("query", ""))
        start, end = (moment(parameters.get(name, ""), name) for name in ("start", "end"))
        step = seconds(parameters.get("step", ""))
        if query.raw:
            raise QueryError(
                400,
                'invalid parameter "query": invalid expression type "range vector" for range query, '
                "must be Scalar or instant Vector",
            )
        if end < start:
            raise QueryError(400, 'invalid parameter "end": end timestamp must not be before start time')
        if (end - start) / step > MOST_POINTS:
            raise QueryError(
                400,
                f"exceeded maximum resolution of {MOST_POINTS:,} points per timeseries. "
                "Try decreasing the query resolution (?step=XX)",
            )
        # In whole milliseconds, as Prometheus counts: steps of 0.1 s shall not drift.
        first, last, stride = (round(value * 1000) for value in (start, end, step))
        times = [ms / 1000 for ms in range(first, last + 1, stride)]
        return {"resultType": "matrix", "result": _matrix(evaluate(self._samples, query, times))}


def moment(text: str, name: str) -> float:
    """A time as Prometheus takes it, Unix seconds or RFC 3339, in Unix seconds to the millisecond."""
    try:
        at = float(text)
    except ValueError:
        try:
            at = dt.datetime.fromisoformat(text).timestamp()
        except ValueError as error:
            raise QueryError(
                400, f'invalid parameter "{name}": cannot parse "{text}" to a valid timestamp'
            ) from error
    if not math.isfinite(at):
        raise QueryError(400, f'invalid parameter "{name}": cannot parse "{text}" to a valid timestamp')
    return round(at, 3)


def seconds(text: str) -> float:
    """A step as Prometheus takes it, a number of seconds or a duration as 1m30s, in seconds; at least a
    millisecond."""
    try:
        step = float(text)
    except ValueError as error:
        parts = re.findall(r"(\d+)(ms|s|m|h)", text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise QueryError(
                400, f'invalid parameter "step": cannot parse "{text}" to a valid duration'
            ) from error
        step = sum(float(number) * UNIT_SECONDS[unit] for number, unit in parts)
    if not (math.isfinite(step) and step >= 0.001):
        raise QueryError(
            400,
            'invalid parameter "step": zero or negative query resolution step widths are not accepted. '
            "Try a positive integer",
        )
    return step


def written(value: float) -> str:
    """A value as Prometheus writes it: the shortest decimal that reads back the same, without exponent."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")


def _point(at: float, value: float) -> list[Any]:
    return [int(at) if at == int(at) else at, written(value)]


def _matrix(rows: list[Row]) -> list[Any]:
    return [{"metric": labels, "values": [_point(*point) for point in points]} for labels, points in rows]


class PrometheusServer(Server):
    """The API over HTTP, and the scraping of one mesh. clock: the present in Unix seconds, for queries that
    name no time."""

    def __init__(self, mesh: Mesh, clock: Callable[[], float]) -> None:
        self.samples = Samples()
        self.faults: PrometheusFaults = PrometheusFaults()
        self._mesh = mesh
        self._was_down = False
        super().__init__(PrometheusApi(self.samples, self.faults, clock), self.faults, "Prometheus API")

    def scrape(self, now: float) -> None:
        """Takes the mesh's samples at a moment, unless Prometheus is down."""
        if self.faults.down:
            self._was_down = True
            return
        if self._was_down:
            self._was_down = False
            self.samples.forget_targets()
        self.samples.append(
            now, [*self._mesh.samples(), ("up", (("instance", "mesh"), ("job", "istio")), 1.0)]
        )
