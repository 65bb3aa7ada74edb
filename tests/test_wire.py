"""The hot path beside the SDKs' own `create`: what goes over the wire, what is raised, and what a connection can do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from raw import HANG, HANG_UP, RESET, Raw, Said, http
from wire import Time, asking, chat, claude, error

from solon.calls import Reply, Sampling
from solon.errors import BadInput, CallFailed, Halt, Passing, SolonError
from solon.models import carrier, open_model
from solon.models.failures import meaning_of
from solon.models.spec import ModelSpec
from solon.models.wire import timeouts

KEY = "sk-test-0123456789abcdef"
PROVIDERS = ("openai", "anthropic")
GOOD = {"openai": chat(), "anthropic": claude()}
LETTER = asking(sampling=Sampling(temperature=None, max_tokens=9))
CARRIERS = {"host", "accept-encoding", "connection", "content-length"}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{provider}_API_KEY", KEY)
        monkeypatch.delenv(f"{provider}_BASE_URL", raising=False)
    for name in (*PROXIES, "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def address(provider: str, url: str) -> str:
    return f"{url}/v1" if provider == "openai" else url


def model_at(provider: str, url: str, time: Time | None = None, **given: Any) -> Any:
    where = {"base_url": address(provider, url), "key_env": f"{provider.upper()}_API_KEY"}
    model: Any = open_model(ModelSpec(use=f"{provider}:tiny", **{**where, **given}))
    if time:
        model._pace.sleep, model._pace.clock = time.sleep, time.clock
    return model


async def created(provider: str, url: str, **more: Any) -> Any:
    """Ask LETTER as the SDK itself does; return what it returns, or the exception that it raises."""
    given: Any = {"api_key": KEY, "base_url": address(provider, url), "timeout": timeouts(600), "max_retries": 0}
    letter: Any = {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello?"}], **more}
    sdk = openai.AsyncOpenAI(**given) if provider == "openai" else anthropic.AsyncAnthropic(**given)
    async with sdk as client:
        try:
            if provider == "openai":
                return await client.chat.completions.create(**letter)
            return await client.messages.create(**letter)
        except Exception as problem:  # noqa: BLE001
            return problem


async def asked(provider: str, url: str, **given: Any) -> Any:
    """Ask LETTER once, as Solon does; return the reply, or the exception."""
    model = model_at(provider, url, **given)
    try:
        return await model._ask(LETTER)
    except Exception as problem:  # noqa: BLE001
        return problem
    finally:
        await model.close()


def told(meaning: Any) -> tuple[Any, ...]:
    """Return all that a meaning says."""
    given = (getattr(meaning, name, None) for name in ("reason", "retry_after", "throttled", "billed", "parameter"))
    return (type(meaning), meaning if isinstance(meaning, Reply) else str(meaning), *given)


def meant(provider: str, url: str, problem: Exception) -> Reply | SolonError:
    """Return the meaning of what the SDK raised, at a model that has not been heard of before."""
    model = model_at(provider, url)
    return meaning_of(problem, model.server, sdk=model.sdk, heard=False, sent={"model", "max_tokens", "messages"})


# -- what goes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_goes_over_the_wire_is_what_create_sends(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Method, path, body and every header but those of the connection."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    async with Raw(http(GOOD[provider])) as raw:
        await asked(provider, raw.url)
        assert not isinstance(await created(provider, raw.url), Exception)
        ours, theirs = raw.heard
    assert ours.line == theirs.line
    assert ours.json == theirs.json
    for name in CARRIERS:
        ours.headers.pop(name, None)
        theirs.headers.pop(name, None)
    if provider == "anthropic":
        # `create` writes the number, `post` the four limits that it stands for
        assert theirs.headers.pop("x-stainless-timeout") == ours.headers.pop("x-stainless-timeout")
    assert ours.headers == theirs.headers
    assert ours.headers["authorization"] == f"Bearer {KEY}"
    assert {"user-agent", "content-type", "accept", "x-stainless-lang"} <= set(ours.headers)
    assert ("openai-project" in ours.headers) == (provider == "openai")
    assert ("anthropic-version" in ours.headers) == (provider == "anthropic")


async def test_a_document_goes_where_completions_create_sends_it() -> None:
    async with Raw(http({"choices": [{"text": "x"}]})) as raw:
        model = model_at("openai", raw.url, form="text")
        await model(asking("Once", "text", sampling=Sampling(None, None, 3)))
        client = openai.AsyncOpenAI(api_key=KEY, base_url=f"{raw.url}/v1")
        await client.completions.create(model="tiny", prompt="Once", max_tokens=3)
        ours, theirs = raw.heard
        await model.close()
    assert (ours.line, ours.json) == (theirs.line, theirs.json)


async def test_texts_of_all_kinds_go_out_as_the_sdk_writes_them() -> None:
    words = 'Ünï 中文 \U0001f600 \u2028 \x00 "quoted" \\ </s>'
    async with Raw(http(chat())) as raw:
        model = model_at("openai", raw.url)
        await model(asking(words, sampling=Sampling(None, None, 9)))
        await created("openai", raw.url, messages=[{"role": "user", "content": words}])
        ours, theirs = raw.heard
        await model.close()
    assert ours.json == theirs.json
    assert json.dumps(words, ensure_ascii=False).encode() in ours.body
    assert json.dumps(words, ensure_ascii=False).encode() in theirs.body


async def test_hundreds_of_calls_are_on_the_wire_at_once_and_their_connections_serve_again() -> None:
    async with Raw(http(chat()), gather=300) as raw:
        model = model_at("openai", raw.url, concurrency=300)
        await asyncio.gather(*(model._ask(LETTER) for _ in range(300)))
        assert raw.connections == 300
        await asyncio.gather(*(model._ask(LETTER) for _ in range(300)))
        assert raw.connections == 300
        await model.close()


# -- what comes back -----------------------------------------------------------------------------------------

STATUSES = [400, 401, 402, 403, 404, 405, 408, 409, 413, 418, 422, 425, 429, 499, 500, 501, 502, 503, 504, 529]
BODIES: dict[str, Any] = {
    "plain": error("not today", code="some_code", param="messages"),
    "anthropic": {"type": "error", "error": {"type": "api_error", "message": "not today"}, "request_id": "r-1"},
    "parameter": error("Unsupported value: 'max_tokens'", code="unsupported_value", param="max_tokens"),
    "policy": error("Blocked.", code="content_policy_violation"),
    "too long": error("This model's maximum context length is 512 tokens"),
    "half": '{"error": {"message": "not',
    "page": "<html><body>Bad gateway</body></html>",
    "list": [1, 2],
    "nothing": "",
    "not utf-8": b'{"error": "\xff\xfe"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_every_status_means_is_what_the_exception_means_that_create_raises(provider: str, body: Any) -> None:
    for status in STATUSES:
        async with Raw(http(body, status, retry_after="7", x_request_id="r-9", request_id="r-9")) as raw:
            problem = await created(provider, raw.url)
            model = model_at(provider, raw.url)
            answer = await model._carrier.post(model.request(LETTER))
            ours = await model._carrier.error(answer)
            await model.close()
            assert type(ours) is type(problem), status
            assert (ours.status_code, ours.body, str(ours)) == (problem.status_code, problem.body, str(problem))
            assert ours.request_id == problem.request_id == "r-9"
            assert told(await asked(provider, raw.url)) == told(meant(provider, raw.url, problem))


NO_ANSWERS: dict[str, tuple[Said, ...]] = {
    "hangs up at once": (Said(then=HANG_UP),),
    "resets at once": (Said(then=RESET),),
    "hangs up in the headers": (Said(b"HTTP/1.1 200 OK\r\nContent-Le", HANG_UP),),
    "hangs up in the body": (Said(http(chat()).bytes[:-20], HANG_UP),),
    "resets in the body": (Said(http(chat()).bytes[:-20], RESET),),
    "hangs up in a chunk": (Said(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"choices"', HANG_UP),),
    "is not http": (Said(b"220 mail.example ESMTP\r\n\r\n", HANG_UP),),
    "leads in a circle": (http("", 307, location="/v1/messages"),),
    "leads nowhere": (http("", 302),),
}


@pytest.mark.parametrize("said", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_server_that_breaks_off_means_what_the_sdks_own_failure_means(
    provider: str, said: tuple[Said, ...]
) -> None:
    async with Raw(*said) as raw:
        ours = await asked(provider, raw.url)
        theirs = meant(provider, raw.url, await created(provider, raw.url))
    assert isinstance(ours, Passing)
    assert told(ours)[0] == told(theirs)[0]
    assert (ours.reason, ours.billed) == (theirs.reason, theirs.billed)  # type: ignore[union-attr]
    assert f"{provider}:tiny at http://127.0.0.1" in str(ours)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_nobody_listening_and_no_such_host_mean_what_the_sdks_own_failures_mean(provider: str) -> None:
    async with Raw(Said()) as raw:
        dead = raw.url
    for url in (dead, "http://solon.invalid"):
        ours, theirs = await asked(provider, url), meant(provider, url, await created(provider, url))
        assert type(ours) is type(theirs) is Halt
        assert "nobody answers" in str(ours)
        assert "nobody answers" in str(theirs)


@pytest.mark.parametrize("sent", [b"", http(chat()).bytes[:-20]], ids=["nothing", "all but the end"])
async def test_a_server_that_hangs_is_given_up_after_timeout_and_may_have_been_paid(sent: bytes) -> None:
    async with Raw(Said(sent, HANG)) as raw:
        problem = await asked("openai", raw.url, timeout=0.2)
    assert isinstance(problem, Passing)
    assert (problem.reason, problem.billed) == ("no_answer", True)
    assert "no answer within 0.2 s" in str(problem)


@pytest.mark.parametrize(
    "said",
    [
        http("{}"),
        http({**chat(), "choices": []}),
        http("<html>", content_type="text/html"),
        http(b'{"choi'),
        http(b"\x1f\x8b\x08\x00nonsense", content_encoding="gzip"),
    ],
    ids=["empty object", "no choices", "page", "half a JSON", "half a gzip"],
)
async def test_an_answer_that_cannot_be_read_may_have_been_paid(said: Said) -> None:
    async with Raw(said) as raw:
        problem = await asked("openai", raw.url)
    assert (type(problem), problem.reason, problem.billed) == (Passing, "unreadable_answer", True)


async def test_what_the_server_refuses_or_never_got_was_not_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    for status in (408, 409, 429, 500, 503, 529):
        async with Raw(http(error("no"), status)) as raw:
            problem = await asked("openai", raw.url)
        assert (type(problem), problem.billed) == (Passing, False), status
    async with Raw(http(chat())) as raw:
        model = model_at("openai", raw.url, patience=0)
        await model(LETTER)
    with pytest.raises(CallFailed) as caught:
        await model(LETTER)
    assert caught.value.billed is False
    await model.close()


async def test_the_answers_content_type_is_not_what_makes_it_readable() -> None:
    async with Raw(http(chat("Yes."), content_type="text/plain; charset=latin-1")) as raw:
        assert (await asked("openai", raw.url)).text == "Yes."


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_what_an_answer_tells_of_limits_is_heeded_whatever_its_status(status: int) -> None:
    told = {"x_ratelimit_limit_requests": "600", "x_ratelimit_remaining_requests": "599"}
    body = chat() if status == 200 else error("no")
    async with Raw(http(body, status, **told, x_ratelimit_reset_requests="100ms")) as raw:
        model = model_at("openai", raw.url)
        with contextlib.suppress(SolonError):
            await model._ask(LETTER)
        assert model._pace.facts().requests_limit == pytest.approx(600)
        await model.close()


# -- connections ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [HANG_UP, RESET])
async def test_a_connection_that_the_server_closed_meanwhile_is_no_failure(ends: str) -> None:
    """What a server closes just as it is written to cannot be seen beforehand. Nobody waits, nothing is counted."""
    time = Time()
    async with Raw(http(chat("One.")), Said(then=ends), http(chat("Two."))) as raw:
        model = model_at("openai", raw.url, time)
        assert [(await model(LETTER)).text for _ in range(2)] == ["One.", "Two."]
        assert [heard.connection for heard in raw.heard] == [1, 1, 2]
        await model.close()
    assert time.naps == []


async def test_a_server_that_hangs_up_on_every_fresh_connection_is_a_failure() -> None:
    async with Raw(Said(then=HANG_UP)) as raw:
        problem = await asked("openai", raw.url)
        assert len(raw.heard) == 1
    assert (problem.reason, problem.billed) == ("no_answer", True)


async def test_a_connection_that_breaks_while_the_server_works_may_have_been_paid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(carrier, "STALE_SECONDS", 0.0)
    async with Raw(http(chat()), Said(then=HANG_UP), http(chat())) as raw:
        model = model_at("openai", raw.url)
        await model._ask(LETTER)
        with pytest.raises(Passing) as caught:
            await model._ask(LETTER)
        await model.close()
    assert caught.value.billed is True
    assert len(raw.heard) == 2


async def test_a_proxy_of_the_environment_is_asked_as_the_sdk_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Raw(http(chat("Through."))) as proxy:
        for name in ("HTTP_PROXY", "ALL_PROXY"):
            proxy.heard.clear()
            monkeypatch.setenv(name, proxy.url.replace("://", "://me:word@"))
            assert (await asked("openai", "http://model.invalid")).text == "Through."
            assert not isinstance(await created("openai", "http://model.invalid"), Exception)
            monkeypatch.delenv(name)
            ours, theirs = proxy.heard
            assert ours.line == theirs.line == "POST http://model.invalid/v1/chat/completions HTTP/1.1"
            assert ours.headers["proxy-authorization"] == theirs.headers["proxy-authorization"]


@pytest.mark.parametrize("spared", ["127.0.0.1", "*", "example.com, 127.0.0.1"])
async def test_no_proxy_is_asked_for_a_host_that_the_environment_spares(
    spared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Raw(http(chat("Direct."))) as raw:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        assert isinstance(await asked("openai", raw.url), Halt)
        monkeypatch.setenv("NO_PROXY", spared)
        assert (await asked("openai", raw.url)).text == "Direct."
        assert not isinstance(await created("openai", raw.url), Exception)


def test_a_socks_proxy_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:word@localhost:1080")
    with pytest.raises(BadInput, match=r"a socks5 proxy for http://model\.invalid; name an http proxy") as caught:
        model_at("openai", "http://model.invalid")
    assert "word" not in str(caught.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """Return a certificate for loopback, and a server's context that shows it."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=loopback -addext"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = ["openssl", *made.split(), names, "-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    return folder / "cert", context


async def test_certificates_are_checked_against_the_file_that_the_environment_names(
    certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, context = certificate
    async with Raw(http(chat("Sealed.")), tls=context) as raw:
        for problem in (await asked("openai", raw.url), meant("openai", raw.url, await created("openai", raw.url))):
            assert isinstance(problem, Halt)
            assert "certificate verify failed" in str(problem)
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        assert (await asked("openai", raw.url)).text == "Sealed."
        assert not isinstance(await created("openai", raw.url), Exception)
        async with Raw(Said()) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            assert (await asked("openai", raw.url)).text == "Sealed."
            assert [heard.line.split()[0] for heard in proxy.heard] == ["CONNECT"]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)


OPENED = """
from solon.models import open_model
from solon.models.spec import ModelSpec
model = open_model(ModelSpec(use="{provider}:tiny", base_url="http://localhost/v1", concurrency=1024))
"""


@pytest.mark.parametrize(("soft", "hard", "calls"), [(256, 4096, 1024), (256, 512, 384)])
def test_the_limit_of_open_files_is_raised_or_fewer_calls_are_in_flight(soft: int, hard: int, calls: int) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("this system allows fewer files itself")
    limit = f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
    done = python(limit + OPENED.format(provider="openai") + "print(model.concurrency)")
    assert int(done.stdout) == calls
    lines = done.stderr.splitlines()
    if calls == 1024:
        assert lines == []
    else:
        assert lines == [
            "openai:tiny at http://localhost/v1: 384 calls at once instead of 1024: this process may open no more "
            "files (raise the hard limit, ulimit -Hn)"
        ]


async def test_too_many_open_files_is_told_as_what_it_is() -> None:
    model = model_at("openai", "http://localhost")
    key: Any = SimpleNamespace(ssl=True, host="localhost", port=80)
    problem = aiohttp.ClientConnectorError(key, OSError(24, "Too many open files"))
    meaning = meaning_of(problem, model.server, sdk=openai, heard=True, sent=())
    assert isinstance(meaning, Halt)
    assert "raise the limit (ulimit -n), or lower its concurrency" in str(meaning)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_model_imports_its_own_sdk_and_nothing_heavy(provider: str) -> None:
    (other,) = set(PROVIDERS) - {provider}
    heavy = [other, "pyarrow", "datasets", "scipy", "pandas", "numpy", "matplotlib", "torch"]
    done = python(OPENED.format(provider=provider) + f"import sys\nprint([n for n in {heavy} if n in sys.modules])")
    assert done.stdout.strip() == "[]"
