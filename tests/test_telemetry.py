"""Spans and metrics: what a run tells a tracer and a meter, when it does, and that no text or key is in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_kit import Desk, Solon, desk, finished, started

from solon.commands import run_recipe
from solon.errors import NotInstalled
from solon.telemetry import Telemetry, open_telemetry

sdk_trace = pytest.importorskip("opentelemetry.sdk.trace")
from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

OTLP = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


class Heard:
    """What a tracer and a meter were told."""

    def __init__(self, *, texts: bool = False) -> None:
        self._spans = InMemorySpanExporter()
        tracers = sdk_trace.TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._reader = InMemoryMetricReader()
        meters = MeterProvider(metric_readers=[self._reader])
        self.closed = 0
        self.telemetry = Telemetry(tracers.get_tracer("t"), meters.get_meter("t"), texts=texts, close=self._close)

    def _close(self) -> None:
        self.closed += 1

    def spans(self, name: str = "") -> list[Any]:
        return [span for span in self._spans.get_finished_spans() if span.name.startswith(name)]

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Return {name: [(attributes, value or count)]}."""
        data = self._reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: [
                (dict(point.attributes), point.value if hasattr(point, "value") else point.count)
                for point in metric.data.data_points
            ]
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def everything(self) -> str:
        return "".join(span.to_json() for span in self.spans()) + json.dumps(self.metrics(), default=str)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    one = Heard()
    monkeypatch.setattr("solon.commands.standing.open_telemetry", lambda env, texts: one.telemetry)
    yield one
    assert one.closed == 1


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return desk(tmp_path / "desk")


# -- spans ---------------------------------------------------------------------------------------------------


async def test_a_run_its_rows_and_their_calls_have_a_span_each(made: Desk, heard: Heard) -> None:
    await run_recipe(made.recipe)
    (run,) = heard.spans("run ")
    rows, calls = heard.spans("row"), heard.spans("chat ")
    assert (run.name, len(rows), len(calls)) == (f"run {made.latest.name}", 4, 20)
    assert (run.attributes["solon.run.state"], run.attributes["solon.run.pairs"]) == ("done", 4)
    for row in rows:
        assert row.attributes["solon.row.outcome"] == "pair" and 0.5 <= row.attributes["solon.row.p_chosen"] <= 1
        assert len(row.attributes["solon.row.id"]) == 32 and row.attributes["solon.run"] == made.latest.name
    assert {row.attributes["solon.row.index"] for row in rows} == {0, 1, 2, 3}


async def test_a_row_is_a_trace_of_its_own_with_its_calls_and_a_link_to_the_run(made: Desk, heard: Heard) -> None:
    """So that a sampler picks rows, and no trace grows with the dataset."""
    await run_recipe(made.recipe)
    (run,) = heard.spans("run ")
    rows = {row.context.span_id: row for row in heard.spans("row")}
    assert len({row.context.trace_id for row in rows.values()} | {run.context.trace_id}) == 5
    assert all(row.parent is None and row.links[0].context.span_id == run.context.span_id for row in rows.values())
    for call in heard.spans("chat "):
        row = rows[call.parent.span_id]
        assert call.context.trace_id == row.context.trace_id
        assert row.start_time <= call.start_time <= call.end_time <= row.end_time


async def test_a_call_tells_what_the_conventions_name(made: Desk, heard: Heard) -> None:
    await run_recipe(made.recipe, limit=1)
    calls = {span.attributes["solon.step"]: span for span in heard.spans("chat ")}
    assert set(calls) == {"respond", "critique.1", "revise.1", "judge.ab", "judge.ba"}
    call = calls["critique.1"]
    assert (call.name, call.kind) == ("chat model:answer", SpanKind.CLIENT)
    given = dict(call.attributes)
    key = given.pop("solon.call.key")
    assert key in made.asked()
    assert given.pop("gen_ai.usage.input_tokens") > 0 and given.pop("gen_ai.usage.output_tokens") > 0
    assert given == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "model:answer",
        "gen_ai.response.model": "model:answer",
        "gen_ai.request.max_tokens": given["gen_ai.request.max_tokens"],
        "gen_ai.request.temperature": 1.0,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "solon.step": "critique.1",
        "solon.role": "critic",
        "solon.call.sample": 0,
        "solon.call.attempt": 0,
        "solon.call.known": False,
    }


async def test_a_call_that_the_ledger_knew_says_so(made: Desk, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("solon.commands.standing.open_telemetry", lambda env, texts: None)
        await run_recipe(made.recipe, limit=2)
    (made.latest / "rows.db").unlink()
    await run_recipe(made.recipe)
    known = [span.attributes["solon.call.known"] for span in heard.spans("chat ")]
    assert (known.count(True), known.count(False)) == (10, 10)
    assert sum(count for _, count in heard.metrics()["gen_ai.client.operation.duration"]) == 10  # asked ones alone


async def test_a_row_that_is_set_aside_tells_its_reason_and_its_failed_call_is_an_error(
    made: Desk, heard: Heard
) -> None:
    script = (made.path / "model.py").read_text().replace(
        "async def answer(call):\n",
        "async def answer(call):\n"
        "    from solon.errors import CallFailed\n"
        "    if 'number 1?' in str(call.messages):\n"
        "        raise CallFailed('rejected_call', 'a very private reason')\n"
        "    if 'number 2?' in str(call.messages):\n"
        "        return ''\n",
    )  # fmt: skip
    (made.path / "model.py").write_text(script)
    await run_recipe(made.recipe)
    rows = {span.attributes["solon.row.index"]: span.attributes for span in heard.spans("row")}
    assert (rows[1]["solon.row.outcome"], rows[1]["solon.row.reason"]) == ("set_aside", "rejected_call")
    assert rows[2]["solon.row.reason"] == "empty_answer"
    assert "solon.row.reason" not in rows[0]
    (failed,) = [span for span in heard.spans("chat ") if span.status.status_code == StatusCode.ERROR]
    assert failed.attributes["error.type"] == "rejected_call"
    assert "private reason" not in heard.everything()


async def test_spans_of_a_run_that_is_cut_off_are_closed(made: Desk, heard: Heard) -> None:
    import asyncio

    stop = asyncio.Event()
    made.write(window=2)
    done = await run_recipe(made.recipe, stop=stop, tell=lambda progress: stop.set() if progress.asked > 5 else None)
    assert done.progress.interrupted
    outcomes = [span.attributes["solon.row.outcome"] for span in heard.spans("row")]
    assert "unfinished" in outcomes
    (run,) = heard.spans("run ")
    assert run.attributes["solon.run.state"] == "interrupted"
    assert run.end_time >= max(span.end_time for span in heard.spans("row"))


async def test_a_halted_run_is_an_error(made: Desk, heard: Heard) -> None:
    (made.path / "model.py").write_text(
        "from solon.errors import Halt\nLOGPROBS = True\n\nasync def answer(call):\n    raise Halt('a private word')\n"
    )
    from solon.errors import Halt

    with pytest.raises(Halt):
        await run_recipe(made.recipe)
    (run,) = heard.spans("run ")
    assert (run.attributes["solon.run.state"], run.status.status_code) == ("halted", StatusCode.ERROR)
    assert "private word" not in heard.everything()


# -- metrics -------------------------------------------------------------------------------------------------


async def test_metrics_say_what_the_standing_says(made: Desk, heard: Heard) -> None:
    done = await run_recipe(made.recipe)
    metrics = heard.metrics()
    usage = done.progress.usage
    assert {point["solon.call.result"]: count for point, count in metrics["solon.calls"]} == {
        "asked": 20, "known": 0, "failed": 0,
    }  # fmt: skip
    assert [count for _, count in metrics["solon.tokens"]] == [usage.input, usage.output]
    assert ({"solon.row.outcome": "pair"}, 4) in metrics["solon.rows"]
    assert metrics["solon.spent"] == [({}, 0.0)]
    durations = metrics["gen_ai.client.operation.duration"]
    assert sum(count for _, count in durations) == 20
    assert durations[0][0] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "model:answer",
    }
    assert {point["gen_ai.token.type"] for point, _ in metrics["gen_ai.client.token.usage"]} == {"input", "output"}


# -- texts and keys ------------------------------------------------------------------------------------------


async def test_no_text_stands_in_a_span_or_a_metric(made: Desk, heard: Heard) -> None:
    await run_recipe(made.recipe)
    told = heard.everything()
    for text in ("How do I do thing", "Words ", "plain words", "Write the critique"):
        assert text not in told


async def test_texts_stand_there_where_they_are_asked_for(made: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[bool] = []
    one = Heard(texts=True)

    def opened(env: object, texts: bool) -> Telemetry:
        asked_for.append(texts)
        return one.telemetry

    monkeypatch.setattr("solon.commands.standing.open_telemetry", opened)
    await run_recipe(made.recipe, limit=1, texts=True)
    assert asked_for == [True]
    (first,) = [span for span in one.spans("chat ") if span.attributes["solon.step"] == "respond"]
    said = json.loads(first.attributes["gen_ai.input.messages"])
    assert said[-1]["parts"] == [{"type": "text", "content": "How do I do thing number 0?"}]
    (answer,) = json.loads(first.attributes["gen_ai.output.messages"])
    assert (answer["role"], answer["finish_reason"]) == ("assistant", "stop")
    assert answer["parts"][0]["content"].startswith("Words ")


def test_the_option_otel_texts_asks_for_them(
    made: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted: list[bool] = []
    monkeypatch.setattr("solon.commands.standing.open_telemetry", lambda env, texts: wanted.append(texts))
    solon = Solon(monkeypatch, capsys)
    assert solon("run", made.recipe, "-q", "--otel-texts").code == 0
    assert solon("run", made.recipe, "-q").code == 0
    assert wanted == [True, False]


# -- whether anybody wants it --------------------------------------------------------------------------------


def test_without_a_word_in_the_environment_nothing_is_even_imported(made: Desk) -> None:
    code = (
        "import sys, asyncio\nfrom solon.commands import run_recipe\n"
        f"asyncio.run(run_recipe({str(made.recipe)!r}))\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", **OTLP},
        {"OTEL_SDK_DISABLED": "true", **OTLP},
        {"OTEL_SERVICE_NAME": "mine"},
    ],
)
def test_nobody_asks_for_it_so(env: dict[str, str]) -> None:
    assert open_telemetry(env) is None


@pytest.mark.parametrize("env", [{"OTEL_TRACES_EXPORTER": "console"}, {"OTEL_METRICS_EXPORTER": "console"}])
def test_an_exporter_that_is_named_is_opened(env: dict[str, str]) -> None:
    telemetry = open_telemetry(env)
    assert telemetry is not None
    telemetry.close()


def test_an_exporter_that_is_not_there_is_told_with_the_remedy() -> None:
    with pytest.raises(NotInstalled, match=r"no exporter 'consol' is installed; did you mean 'console'\?"):
        open_telemetry({"OTEL_TRACES_EXPORTER": "consol"})
    with pytest.raises(NotInstalled, match="pip install opentelemetry-exporter-otlp-proto-http"):
        open_telemetry({**OTLP, "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier/pigeon"})


def test_without_the_extra_the_run_says_so_in_a_line_and_goes_on(
    made: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    for name in [name for name in sys.modules if name.startswith("opentelemetry.sdk.")]:
        monkeypatch.delitem(sys.modules, name)
    told = Solon(monkeypatch, capsys)("run", made.recipe)
    assert told.code == 0
    (line,) = [line for line in told.err.splitlines() if "OTEL" in line]
    assert "spans and metrics need an extra: pip install 'solon[otel]'; the run goes on without" in line


def test_spans_go_where_the_environment_says(made: Desk) -> None:
    told = finished(started("run", made.recipe, "-q", cwd=made.path, env={"OTEL_TRACES_EXPORTER": "console"}))
    assert told.code == 0
    assert told.out.count('"gen_ai.operation.name": "chat"') == 20
    assert '"service.name": "solon"' in told.out
    assert "How do I do thing" not in told.out


def test_processes_that_walk_together_each_tell_of_their_own_rows(
    made: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter of ours, found as any other is: it adds a line a span to a file."""
    (tmp_path / "lines.py").write_text(
        "import os\n"
        "from opentelemetry.sdk.trace.export import SpanExporter\n\n\n"
        "class Lines(SpanExporter):\n"
        "    def export(self, spans):\n"
        f"        with open({str(tmp_path / 'spans.txt')!r}, 'a') as file:\n"
        "            for span in spans:\n"
        "                file.write(f\"{os.getpid()} {span.name.split()[0]} {span.attributes.get('solon.run')}\\n\")\n"
    )
    info = tmp_path / "lines-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lines\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[opentelemetry_traces_exporter]\nlines = lines:Lines\n")
    env = {"OTEL_TRACES_EXPORTER": "lines", "PYTHONPATH": str(tmp_path)}
    told = finished(started("run", made.recipe, "-q", "--processes", "2", cwd=made.path, env=env))
    assert told.code == 0
    lines = [line.split() for line in (tmp_path / "spans.txt").read_text().splitlines()]
    rows = [line for line in lines if line[1] == "row"]
    assert len(rows) == 4 and len({process for process, _, _ in rows}) == 2
    assert {run for _, _, run in rows} == {made.latest.name}
    assert [name for _, name, _ in lines].count("chat") == 20
    assert [name for _, name, _ in lines].count("run") == 1


def test_a_provider_that_the_program_around_it_set_is_used_and_left_open(made: Desk) -> None:
    code = f"""
import asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from solon.commands import run_recipe
kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
asyncio.run(run_recipe({str(made.recipe)!r}))
provider.get_tracer("after").start_span("after").end()
names = [span.name.split()[0] for span in kept.get_finished_spans()]
print(*sorted((name, names.count(name)) for name in set(names)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "('after', 1) ('chat', 20) ('row', 4) ('run', 1)\n"
