"""Spans and metrics of a run by OpenTelemetry (extra `otel`), where the environment or the program around it asks.

    telemetry = open_telemetry(os.environ)               # None where nobody asks: then nothing is even imported
    telemetry.begin("colours-1f2e3d", names)
    outcome = await story(row, cast.listening(telemetry.heard(row, listen)))
    telemetry.ended(row, outcome)
    telemetry.observe(standing)                          # now and then: what the metrics read
    telemetry.end(standing)

Every row is a trace of its own, linked to the run's: a sampler (`OTEL_TRACES_SAMPLER=traceidratio`) then picks rows,
and no trace grows with the dataset. A call's span stands under its row's, and covers all attempts at it. Names are
those of the GenAI semantic conventions 1.41 (https://opentelemetry.io/docs/specs/semconv/gen-ai/) where they have one,
else they begin with `solon.`. Texts are in no attribute unless `texts` is asked for; keys never are: a Call has none.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from solon.calls import Call, Reply
from solon.cast import Listener
from solon.complaints import one_of
from solon.errors import NotInstalled
from solon.pipelines.standing import Standing
from solon.rows import Asked, Pair, Row, SetAside

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.trace import Span, Tracer

__all__ = ["Telemetry", "open_telemetry"]

SCHEMA = "https://opentelemetry.io/schemas/1.41.0"
SECONDS_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""As the conventions advise for `gen_ai.client.operation.duration` and `gen_ai.client.token.usage`."""


class Telemetry:
    """What a run tells a tracer and a meter. `close` gives back what `open_telemetry` made.

    names: what people call the model of each role
    texts: also the questions and answers themselves, as `gen_ai.input.messages` and `gen_ai.output.messages`
    """

    def __init__(
        self, tracer: Tracer, meter: Meter, *, texts: bool = False, close: Callable[[], None] = lambda: None
    ) -> None:
        self.close = close
        self._tracer = tracer
        self._texts = texts
        self._names: Mapping[str, str] = {}
        self._run: Span | None = None
        self._name = ""
        self._rows: dict[int, tuple[Span, dict[tuple[str, str], tuple[Span, float]]]] = {}
        self._standing: Standing | None = None
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "How long an asked call took, with all attempts and waits.",
            explicit_bucket_boundaries_advisory=SECONDS_BUCKETS,
        )  # fmt: skip
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens of an asked call.",
            explicit_bucket_boundaries_advisory=TOKENS_BUCKETS,
        )  # fmt: skip
        count, gauge = meter.create_observable_counter, meter.create_observable_gauge
        for create, name, unit, what, read in (
            (count, "solon.calls", "{call}", "Calls by where their answer came from.", _calls),
            (count, "solon.tokens", "{token}", "Tokens of asked calls.", _tokens),
            (count, "solon.throttled", "{answer}", "Answers that said: too many requests.", _throttled),
            (gauge, "solon.rows", "{row}", "Rows of the run by what became of them.", _rows),
            (gauge, "solon.calls.in_flight", "{call}", "Calls in flight.", _in_flight),
            (gauge, "solon.calls.limit", "{call}", "Calls there may be in flight.", _limit),
            (gauge, "solon.spent", "USD", "Dollars paid by this walk.", _spent),
        ):
            create(name, [self._reading(read)], unit, what)

    def _reading(self, read: Callable[[Standing], Iterable[tuple[float, dict[str, str]]]]) -> Any:
        from opentelemetry.metrics import Observation

        def observe(options: CallbackOptions) -> list[Observation]:
            standing = self._standing
            return [] if standing is None else [Observation(value, given) for value, given in read(standing)]

        return observe

    # spans

    def begin(self, run: str, names: Mapping[str, str], *, part: bool = False) -> None:
        """Open the run's span.

        names: {role: what people call its model}
        part:  this is one of several processes that walk the run: another one has the span
        """
        self._names, self._name = dict(names), run
        if not part:
            self._run = self._tracer.start_span(f"run {run}", attributes={"solon.run": run})

    def heard(self, row: Row, listen: Listener) -> Listener:
        """Open a row's span; return a listener that tells `listen`, and has a span for each of the row's calls."""
        from opentelemetry import trace
        from opentelemetry.context import Context

        links = [trace.Link(self._run.get_span_context())] if self._run else []
        # in an empty context: whatever span is current around us is no parent of this row
        span = self._tracer.start_span(
            "row", context=Context(), links=links,
            attributes={"solon.run": self._name, "solon.row.id": row.id, "solon.row.index": row.index},
        )  # fmt: skip
        under = trace.set_span_in_context(span)
        calls: dict[tuple[str, str], tuple[Span, float]] = {}
        self._rows[row.index] = (span, calls)

        def heard(question: Asked, call: Call, reply: Reply | None) -> None:
            listen(question, call, reply)
            name = (question.step, question.key)
            if reply is None:
                calls[name] = (self._asked(question, call, under), time.monotonic())
            elif name in calls:
                self._answered(question, call, reply, *calls.pop(name))

        return heard

    def ended(self, row: Row, outcome: Pair | SetAside) -> None:
        """Close a row's span with what became of it; a call that was not answered ends with the row's reason."""
        from opentelemetry.trace import Status, StatusCode

        span, calls = self._rows.pop(row.index)
        reason = outcome.reason if isinstance(outcome, SetAside) else ""
        for open_span, _ in calls.values():
            open_span.set_attribute("error.type", reason or "_OTHER")
            open_span.set_status(Status(StatusCode.ERROR))
            open_span.end()
        span.set_attribute("solon.row.outcome", "set_aside" if reason else "pair")
        if reason:
            span.set_attribute("solon.row.reason", reason)
        elif isinstance(outcome, Pair):
            span.set_attribute("solon.row.p_chosen", outcome.p_chosen)
        span.end()

    def _asked(self, question: Asked, call: Call, under: Any) -> Span:
        from opentelemetry.trace import SpanKind

        given = call.sampling
        attributes: dict[str, Any] = {
            **self._about(question, call),
            "gen_ai.request.max_tokens": given.max_tokens,
            "gen_ai.request.temperature": given.temperature,
            "gen_ai.request.top_p": given.top_p,
            "gen_ai.request.stop_sequences": given.stop or None,
            "gen_ai.output.type": "json" if call.schema else None,
            "solon.step": question.step,
            "solon.role": question.role,
            "solon.call.key": question.key,
            "solon.call.sample": call.sample,
            "solon.call.attempt": call.attempt,
        }
        if self._texts:
            attributes["gen_ai.input.messages"] = json.dumps(
                [_turn(message.role, message.content) for message in call.messages], ensure_ascii=False
            )
        told = {name: value for name, value in attributes.items() if value is not None}
        title = f"{told['gen_ai.operation.name']} {told['gen_ai.request.model']}"
        return self._tracer.start_span(title, context=under, kind=SpanKind.CLIENT, attributes=told)

    def _answered(self, question: Asked, call: Call, reply: Reply, span: Span, begun: float) -> None:
        usage = reply.usage
        span.set_attributes(
            {
                "solon.call.known": reply.known,
                "gen_ai.response.finish_reasons": (FINISHES[reply.finish],),
                "gen_ai.usage.input_tokens": usage.input,
                "gen_ai.usage.output_tokens": usage.output,
                "gen_ai.usage.cache_read.input_tokens": usage.cached,
                "gen_ai.usage.reasoning.output_tokens": usage.thinking,
            }
        )
        if reply.model:
            span.set_attribute("gen_ai.response.model", reply.model)
        if self._texts:
            said = {**_turn("assistant", reply.text), "finish_reason": FINISHES[reply.finish]}
            span.set_attribute("gen_ai.output.messages", json.dumps([said], ensure_ascii=False))
        span.end()
        if not reply.known:
            about = self._about(question, call)
            self._seconds.record(time.monotonic() - begun, about)
            self._tokens.record(usage.input, {**about, "gen_ai.token.type": "input"})
            self._tokens.record(usage.output, {**about, "gen_ai.token.type": "output"})

    def _about(self, question: Asked, call: Call) -> dict[str, str]:
        text = call.messages[0].role == "text"
        return {
            "gen_ai.operation.name": "text_completion" if text else "chat",
            "gen_ai.provider.name": call.model.partition(":")[0],
            "gen_ai.request.model": self._names.get(question.role, call.model),
        }

    def end_rows(self) -> None:
        """Close the spans of rows that are cut off in the middle, and of their calls."""
        from opentelemetry.trace import Status, StatusCode

        for span, calls in self._rows.values():
            for open_span, _ in calls.values():
                open_span.set_status(Status(StatusCode.ERROR, "the run ended before its answer"))
                open_span.end()
            span.set_attribute("solon.row.outcome", "unfinished")
            span.end()
        self._rows.clear()

    # metrics, and the end

    def observe(self, standing: Standing) -> None:
        """Take note of where the run stands: the metrics read it when they are collected."""
        self._standing = standing

    def end(self, standing: Standing) -> None:
        """Close all spans that are still open, the run's last."""
        from opentelemetry.trace import Status, StatusCode

        self.observe(standing)
        self.end_rows()
        if self._run:
            self._run.set_attributes(
                {
                    "solon.run.state": standing.state,
                    "solon.run.rows": standing.rows.total,
                    "solon.run.pairs": standing.rows.pairs,
                    "solon.run.set_aside": standing.rows.set_aside,
                    "solon.run.calls.asked": standing.calls.asked,
                    "solon.run.calls.known": standing.calls.known,
                }
            )
            if standing.state not in ("done", "interrupted"):
                self._run.set_status(Status(StatusCode.ERROR, standing.state))
            self._run.end()
            self._run = None


FINISHES = {"stop": "stop", "length": "length", "refusal": "content_filter"}


def _turn(role: str, words: str) -> dict[str, Any]:
    return {"role": role if role != "text" else "user", "parts": [{"type": "text", "content": words}]}


def _calls(standing: Standing) -> Iterable[tuple[float, dict[str, str]]]:
    calls = standing.calls
    for result, count in (("asked", calls.asked), ("known", calls.known), ("failed", calls.failed)):
        yield count, {"solon.call.result": result}


def _tokens(standing: Standing) -> Iterable[tuple[float, dict[str, str]]]:
    yield standing.tokens.input, {"gen_ai.token.type": "input"}
    yield standing.tokens.output, {"gen_ai.token.type": "output"}


def _rows(standing: Standing) -> Iterable[tuple[float, dict[str, str]]]:
    yield standing.rows.pairs, {"solon.row.outcome": "pair"}
    yield standing.rows.left, {"solon.row.outcome": "unfinished"}
    for reason, count in standing.rows.aside.items():
        yield count, {"solon.row.outcome": "set_aside", "solon.row.reason": reason}


def _in_flight(standing: Standing) -> Iterable[tuple[float, dict[str, str]]]:
    return ((server.in_flight, {"gen_ai.request.model": server.model}) for server in standing.servers)


def _limit(standing: Standing) -> Iterable[tuple[float, dict[str, str]]]:
    return ((server.limit, {"gen_ai.request.model": server.model}) for server in standing.servers)


def _throttled(standing: Standing) -> Iterable[tuple[float, dict[str, str]]]:
    return ((server.throttled, {"gen_ai.request.model": server.model}) for server in standing.servers)


def _spent(standing: Standing) -> Iterable[tuple[float, dict[str, str]]]:
    return () if standing.money.spent is None else ((standing.money.spent, {}),)


# -- whether anybody wants it ------------------------------------------------------------------------------------


def open_telemetry(env: Mapping[str, str], *, texts: bool = False) -> Telemetry | None:
    """Return what to tell, or None where nobody asks: no provider is set and no exporter named.

    A provider that the embedding program (or `opentelemetry-instrument`) set is used as it is. Otherwise the exporters
    that OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER name are opened; an OTEL_EXPORTER_OTLP_ENDPOINT alone means
    `otlp` for both, "none" and OTEL_SDK_DISABLED mean what they always do.

    Raises NotInstalled where the environment asks for it and the extra, or an exporter's package, is missing.
    """
    given = "opentelemetry.sdk.trace" in sys.modules or "opentelemetry.sdk.metrics" in sys.modules
    wanted = {signal: _exporters(env, signal) for signal in ("traces", "metrics")}
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true" or not (given or any(wanted.values())):
        return None
    try:
        from opentelemetry import metrics, trace
        from opentelemetry.sdk import metrics as sdk_metrics
        from opentelemetry.sdk import trace as sdk_trace
    except ImportError as problem:
        asked = ", ".join(sorted(name for name in env if name.startswith("OTEL_")))
        raise NotInstalled(f"{asked}: spans and metrics need an extra: pip install 'solon[otel]'") from problem
    from solon import __version__

    if given:
        tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
        if not isinstance(tracers, sdk_trace.TracerProvider) and not isinstance(meters, sdk_metrics.MeterProvider):
            given = False  # the SDK was imported, and nothing set up
    if given:
        close: Callable[[], None] = lambda: None  # noqa: E731 - it is not ours
    elif any(wanted.values()):
        tracers, meters, close = _providers(wanted, env)
    else:
        return None
    return Telemetry(
        tracers.get_tracer("solon", __version__, schema_url=SCHEMA),
        meters.get_meter("solon", __version__, schema_url=SCHEMA),
        texts=texts,
        close=close,
    )


def _exporters(env: Mapping[str, str], signal: str) -> tuple[str, ...]:
    named = env.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower()
    if not named:
        places = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        named = "otlp" if any(env.get(place) for place in places) else "none"
    return tuple(one.strip() for one in named.split(",") if one.strip() not in ("", "none"))


def _providers(wanted: Mapping[str, tuple[str, ...]], env: Mapping[str, str]) -> tuple[Any, Any, Callable[[], None]]:
    """Return providers that export to what is wanted, and what ends them once all is told."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({} if env.get("OTEL_SERVICE_NAME") else {"service.name": "solon"})
    tracers = TracerProvider(resource=resource)
    for name in wanted["traces"]:
        tracers.add_span_processor(BatchSpanProcessor(_exporter("traces", name, env)()))
    readers: list[MetricReader] = []
    for name in wanted["metrics"]:
        kind = _exporter("metrics", name, env)
        one = kind()
        readers.append(one if isinstance(one, MetricReader) else PeriodicExportingMetricReader(one))
    meters = MeterProvider(resource=resource, metric_readers=readers)

    def close() -> None:
        tracers.shutdown()
        meters.shutdown()

    return tracers, meters, close


def _exporter(signal: str, name: str, env: Mapping[str, str]) -> Any:
    """Return the class of a named exporter, from whichever package brings it. Raises NotInstalled."""
    from importlib.metadata import entry_points

    there = entry_points(group=f"opentelemetry_{signal}_exporter")
    names = [name]
    if name == "otlp":
        protocol = env.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        names = {"grpc": ["otlp_proto_grpc"], "http/protobuf": ["otlp_proto_http"]}.get(
            protocol or "", ["otlp_proto_http", "otlp_proto_grpc"]
        )
    for each in names:
        for found in there.select(name=each):
            return found.load()
    if name.startswith("otlp"):
        raise NotInstalled(
            f"no OTLP exporter for {signal} is installed: pip install opentelemetry-exporter-otlp-proto-http"
        )
    wrong = f"OTEL_{signal.upper()}_EXPORTER: no exporter {name!r} is installed"
    raise NotInstalled(f"{wrong}; {one_of(name, sorted(there.names))}")
