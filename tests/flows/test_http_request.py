"""One request: what is sent, what a good answer leaves behind, and what a bad one says. Without a socket."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tidemill.flows.http_request import HttpRequestFlow, retry_after
from tidemill.sdk.context import RunContext
from tidemill.sdk.failures import FlowFailed
from tidemill.sdk.memory import MemoryRecorder

RUN_ID = "0192e4a0-0000-7000-8000-000000000001"
URL = "https://api.test/v1/activity"
Handler = Callable[[httpx.Request], httpx.Response]
NewContext = Callable[..., RunContext]


class Api:
    """An API that answers with ``handler`` and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception | Handler) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)


async def ask(api: Api, context: RunContext, **parameters: Any) -> dict[str, Any]:
    flow = HttpRequestFlow(transport=httpx.MockTransport(api))
    try:
        return await flow.run({"url": URL} | parameters, context)
    finally:
        await flow.aclose()


async def refusal(api: Api, context: RunContext, **parameters: Any) -> FlowFailed:
    with pytest.raises(FlowFailed) as failed:
        await ask(api, context, **parameters)
    return failed.value


ACTIVITY = {"type": "music", "activity": "Learn the tin whistle"}


def answer(status: int = 200, **more: Any) -> httpx.Response:
    return httpx.Response(status, **({"json": ACTIVITY} | more))


# What a good answer leaves behind


async def test_a_good_answer_is_printed_kept_and_told(context: NewContext, recorder: MemoryRecorder) -> None:
    api = Api(answer(headers={"etag": '"7"', "date": "Sun, 29 Mar 2026 09:00:00 GMT", "set-cookie": "id=1"}))
    result = await ask(api, context())
    size = len(json.dumps(ACTIVITY, separators=(",", ":")))
    assert result == {"status": 200, "elapsed_s": 0.0, "bytes": size, "artifact": "activity"}
    assert recorder.messages == [
        f"GET {URL} answered 200 OK in 0 s, {size}B",
        '{"type": "music", "activity": "Learn the tin whistle"}',
    ]
    (kept,) = recorder.artifacts
    assert (kept.key, kept.type, kept.description) == ("activity", "json", recorder.messages[0])
    assert kept.data == {
        "url": URL,
        "method": "GET",
        "status": 200,
        "headers": {"content-type": "application/json", "etag": '"7"'},
        "body": ACTIVITY,
    }


async def test_an_equal_answer_makes_an_equal_document(context: NewContext, recorder: MemoryRecorder) -> None:
    """So that no new version is made: neither the time taken nor the Date header is in the document."""

    def slow(request: httpx.Request) -> httpx.Response:
        run.clock.advance(1.25)  # type: ignore[attr-defined]
        return answer(headers={"date": "Mon, 30 Mar 2026 09:00:00 GMT"})

    run = context()
    api = Api(answer(headers={"date": "Sun, 29 Mar 2026 09:00:00 GMT"}), slow)
    flow = HttpRequestFlow(transport=httpx.MockTransport(api))
    await flow.run({"url": URL}, run)
    second = await flow.run({"url": URL}, run)
    first_kept, second_kept = recorder.artifacts
    assert first_kept.data == second_kept.data
    assert second["elapsed_s"] == 1.25
    assert "in 1.25 s" in str(second_kept.description)


@pytest.mark.parametrize(
    ("parameters", "keys"),
    [
        ({}, ["activity"]),
        ({"artifact": True}, ["activity"]),
        ({"artifact": "other"}, ["other"]),
        ({"artifact": False}, []),
    ],
)
async def test_the_artifact_has_the_deployments_name_or_another_or_is_none(
    context: NewContext, recorder: MemoryRecorder, parameters: dict[str, Any], keys: list[str]
) -> None:
    result = await ask(Api(answer()), context(), **parameters)
    assert [kept.key for kept in recorder.artifacts] == keys
    assert result["artifact"] == (keys[0] if keys else None)


async def test_versions_and_headers_of_the_artifact_are_as_asked(context: NewContext, recorder: MemoryRecorder) -> None:
    api = Api(answer(headers={"X-Total": "7"}))
    await ask(api, context(), artifact_headers=["X-Total"], keep_versions=3, new_version=True)
    (kept,) = recorder.artifacts
    assert (kept.keep_versions, kept.new_version, kept.data["headers"]) == (3, True, {"x-total": "7"})


async def test_the_answer_is_not_printed_where_not_wanted(context: NewContext, recorder: MemoryRecorder) -> None:
    await ask(Api(answer()), context(), log_response=False)
    assert len(recorder.logs) == 1


async def test_an_answer_too_large_to_keep_leaves_its_size_and_says_so(
    context: NewContext, recorder: MemoryRecorder
) -> None:
    """P13: what is cut says so."""
    await ask(Api(answer(json=["x" * 1_500_000])), context())
    (kept,) = recorder.artifacts
    assert (kept.data["body"], kept.data["bytes"]) == (None, 1_500_004)
    assert [log.message for log in recorder.logs if log.level == logging.WARNING] == [
        'artifact "activity" has only size and SHA-256 of the body: 1.4MiB are more than an artifact may have'
    ]


@pytest.mark.parametrize(("status", "body"), [(204, b""), (200, b"")])
async def test_an_empty_answer_is_good(context: NewContext, recorder: MemoryRecorder, status: int, body: bytes) -> None:
    await ask(Api(httpx.Response(status, content=body, headers={"content-type": "application/json"})), context())
    assert recorder.artifacts[0].data["body"] is None


# What is sent


@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        ({}, ("GET", URL, b"")),
        ({"method": "post", "json": {"a": [1]}}, ("POST", URL, b'{"a":[1]}')),
        ({"method": "POST", "json": None}, ("POST", URL, b"null")),
        ({"method": "PUT", "form": {"a": "b c", "n": 3}}, ("PUT", URL, b"a=b+c&n=3")),
        ({"method": "PATCH", "text": "é"}, ("PATCH", URL, "é".encode())),
        ({"params": {"q": "a b", "n": [1, 2], "t": True}}, ("GET", URL + "?q=a+b&n=1&n=2&t=true", b"")),
        ({"url": URL + "?a=1", "params": {"b": "2"}}, ("GET", URL + "?a=1&b=2", b"")),
    ],
)
async def test_a_request_is_sent_as_written(
    context: NewContext, parameters: dict[str, Any], sent: tuple[str, str, bytes]
) -> None:
    api = Api(answer())
    await ask(api, context(), **parameters)
    (request,) = api.requests
    assert (request.method, str(request.url).replace("%20", "+"), request.content) == sent


async def test_headers_are_sent_with_secrets_resolved(context: NewContext) -> None:
    api = Api(answer())
    await ask(api, context(), headers={"X-Key": {"env": "TOKEN"}, "X-Version": 3, "User-Agent": "mine"})
    headers = api.requests[0].headers
    assert (headers["x-key"], headers["x-version"], headers["user-agent"]) == ("s3cret-t0ken", "3", "mine")
    assert headers["accept-encoding"] == "gzip, deflate"
    assert "cookie" not in headers


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ({"bearer": {"env": "TOKEN"}}, "Bearer s3cret-t0ken"),
        ({"bearer": "literal"}, "Bearer literal"),
        (
            {"basic": {"username": "me", "password": {"env": "PASSWORD"}}},
            f"Basic {base64.b64encode(b'me:open-sesame').decode()}",
        ),
    ],
)
async def test_auth_becomes_its_header(context: NewContext, auth: dict[str, Any], header: str) -> None:
    api = Api(answer())
    await ask(api, context(), auth=auth)
    assert api.requests[0].headers["authorization"] == header


async def test_the_idempotency_key_is_the_same_at_every_attempt_of_a_run(context: NewContext) -> None:
    api = Api(answer())
    for attempt in (1, 2):
        await ask(api, context(attempt=attempt), method="POST", idempotency_header="Idempotency-Key")
    assert [request.headers["idempotency-key"] for request in api.requests] == [RUN_ID, RUN_ID]


async def test_cookies_of_one_answer_are_not_sent_with_the_next_request(context: NewContext) -> None:
    """The pool of connections is shared by all deployments; a session is not."""
    api = Api(answer(headers={"set-cookie": "session=1"}))
    flow = HttpRequestFlow(transport=httpx.MockTransport(api))
    await flow.run({"url": URL}, context())
    await flow.run({"url": URL}, context())
    assert "cookie" not in api.requests[1].headers


async def test_a_secret_that_is_not_there_fails_the_run_before_anything_is_sent(context: NewContext) -> None:
    api = Api(answer())
    with pytest.raises(Exception, match='the secret "ABSENT" is not set'):
        await ask(api, context(), auth={"bearer": {"env": "ABSENT"}})
    assert api.requests == []


async def test_a_secret_that_would_break_the_header_is_refused(context: NewContext, recorder: MemoryRecorder) -> None:
    recorder.secrets["TOKEN"] = "two\nlines"
    api = Api(answer())
    failed = await refusal(api, context(), auth={"bearer": {"env": "TOKEN"}})
    assert failed.message == "the value of the header authorization holds a line break or letters beyond ASCII"
    assert api.requests == []


# What a bad answer says


@pytest.mark.parametrize(
    ("status", "expected", "good"),
    [
        (200, "2xx", True),
        (299, "2xx", True),
        (300, "2xx", False),
        (404, [200, 404], True),
        (404, ["2XX", "400-404"], True),
        (405, ["2xx", "400-404"], False),
        (200, 204, False),
        (503, "503", True),
    ],
)
async def test_the_expected_statuses_decide(context: NewContext, status: int, expected: Any, good: bool) -> None:
    api = Api(answer(status))
    if good:
        assert (await ask(api, context(), expected_status=expected))["status"] == status
    else:
        assert (await refusal(api, context(), expected_status=expected)).data == {"status": status}


async def test_a_failure_names_request_status_and_the_first_bytes(
    context: NewContext, recorder: MemoryRecorder
) -> None:
    failed = await refusal(Api(httpx.Response(503, text="down for\nrepair " + "x" * 500)), context())
    assert failed.message == f"GET {URL} answered 503 Service Unavailable: " + ("down for repair " + "x" * 500)[:200]
    assert recorder.artifacts == []


SAFE: dict[str, Any] = {"method": "GET"}
UNSAFE: dict[str, Any] = {"method": "POST"}


@pytest.mark.parametrize(
    ("outcome", "parameters", "retriable"),
    [
        (503, SAFE, True),
        (500, {"method": "PUT"}, True),
        (500, {"method": "DELETE"}, True),
        (429, {"method": "HEAD"}, True),
        (429, {"method": "OPTIONS"}, True),
        (408, SAFE, True),
        (404, SAFE, False),  # asking again gives the same
        (401, SAFE, False),
        (301, SAFE | {"follow_redirects": False}, False),
        (503, UNSAFE, False),  # it may have been done
        (503, {"method": "PATCH"}, False),
        (503, UNSAFE | {"idempotency_header": "Idempotency-Key"}, True),
        (503, UNSAFE | {"retry_unsafe": True}, True),
        (httpx.ConnectError("no"), SAFE, True),
        (httpx.ConnectError("no"), UNSAFE, False),
        (httpx.ReadTimeout("no"), SAFE, True),
        (httpx.ReadTimeout("no"), UNSAFE, False),
    ],
)
async def test_only_what_does_no_harm_twice_is_retried(
    context: NewContext, outcome: int | Exception, parameters: dict[str, Any], retriable: bool
) -> None:
    api = Api(outcome if isinstance(outcome, Exception) else answer(outcome))
    assert (await refusal(api, context(), **parameters)).retriable is retriable


NOW = datetime(2026, 3, 29, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        (None, None),
        ("", None),
        ("120", timedelta(minutes=2)),
        (" 0 ", timedelta(0)),
        ("Sun, 29 Mar 2026 09:05:00 GMT", timedelta(minutes=5)),
        ("Sunday, 29-Mar-26 09:05:00 GMT", timedelta(minutes=5)),  # the form of RFC 850
        ("Sun Mar 29 09:05:00 2026", timedelta(minutes=5)),  # asctime's
        ("Sun, 29 Mar 2026 08:00:00 GMT", timedelta(0)),  # over already
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),  # a digit, but not one of RFC 9110
        ("9" * 400, timedelta(days=366)),  # bounded here, capped by the deployment's policy
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, wait: timedelta | None) -> None:
    assert retry_after(header, NOW) == wait


async def test_what_the_server_asks_to_wait_is_passed_on(context: NewContext) -> None:
    run = context()
    date = (run.clock.now() + timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    for header, wait_s in (("7", 7), (date, 90)):
        failed = await refusal(Api(answer(429, headers={"retry-after": header})), run)
        assert failed.retry_after == timedelta(seconds=wait_s)


@pytest.mark.parametrize(
    ("content", "content_type", "says"),
    [
        (b"<html>oops", "application/json", "is not JSON, though it says so"),
        (b'{"price": NaN}', "application/json", "is not JSON, though it says so"),
        (b'{"a": "\xe9"}', "application/json", 'cannot be read as "utf-8"'),
    ],
)
async def test_a_body_that_is_not_what_it_says_fails_with_its_first_bytes(
    context: NewContext, recorder: MemoryRecorder, content: bytes, content_type: str, says: str
) -> None:
    api = Api(httpx.Response(200, content=content, headers={"content-type": content_type}))
    failed = await refusal(api, context())
    assert says in failed.message
    assert failed.message.endswith(content.decode(errors="replace"))
    assert recorder.artifacts == []


async def test_what_went_wrong_below_is_told_without_the_query(context: NewContext) -> None:
    error = httpx.ConnectError("All connection attempts failed")
    error.__cause__ = ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)")
    failed = await refusal(Api(error), context(), params={"key": {"env": "TOKEN"}})
    assert failed.message == f"GET {URL}?key=…: Connection refused"


# Secrets (P14)


@pytest.mark.parametrize("status", [200, 500])
async def test_a_secret_that_an_api_echoes_is_neither_printed_nor_kept(
    context: NewContext, recorder: MemoryRecorder, status: int
) -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={"headers": dict(request.headers), "url": str(request.url)})

    auth = {"basic": {"username": "me", "password": {"env": "PASSWORD"}}}
    try:
        await ask(Api(echo), context(), auth=auth, headers={"x-key": {"env": "TOKEN"}}, params={"k": {"env": "TOKEN"}})
        told = ""
    except FlowFailed as failed:
        told = failed.message
    told += "\n".join(recorder.messages) + json.dumps([kept.data for kept in recorder.artifacts])
    assert "********" in told
    for secret in ("s3cret-t0ken", "open-sesame", base64.b64encode(b"me:open-sesame").decode()):
        assert secret not in told


async def test_a_secret_url_is_shown_without_its_path(context: NewContext, recorder: MemoryRecorder) -> None:
    api = Api(answer())
    await ask(api, context(), url={"env": "HOOK"}, method="POST", json={})
    assert str(api.requests[0].url) == "https://hooks.test/T0P/s3cret"
    assert recorder.artifacts[0].data["url"] == "https://hooks.test/…"
    assert recorder.messages[0].startswith("POST https://hooks.test/… answered 200 OK")


async def test_values_of_a_query_are_not_shown(context: NewContext, recorder: MemoryRecorder) -> None:
    await ask(Api(answer()), context(), url=URL + "?appid=abc&q=x")
    assert recorder.artifacts[0].data["url"] == URL + "?appid=…&q=…"
    assert "abc" not in "\n".join(recorder.messages)


# Redirects


def redirect(status: int, location: str) -> httpx.Response:
    return httpx.Response(status, headers={"location": location})


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "GET", "GET"),
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
        (302, "PUT", "PUT"),
    ],
)
async def test_a_redirect_changes_the_method_as_the_standard_says(
    context: NewContext, status: int, method: str, then: str
) -> None:
    api = Api(redirect(status, "/elsewhere"), answer())
    await ask(api, context(), method=method, json={"a": 1}, auth={"bearer": "tok"})
    second = api.requests[1]
    assert (second.method, str(second.url)) == (then, "https://api.test/elsewhere")
    kept = then == method and then != "GET" and status != 303
    if method not in {"GET", "HEAD"}:
        assert (second.content == b'{"a":1}', "content-type" in second.headers) == (kept, kept)
    assert second.headers["authorization"] == "Bearer tok"


@pytest.mark.parametrize(
    ("target", "same"),
    [
        ("https://api.test/other", True),
        ("https://API.test:443/other", True),
        ("https://evil.test/other", False),
        ("http://api.test/other", False),  # another scheme
        ("https://api.test:8443/other", False),  # another port
        ("//evil.test/other", False),
    ],
)
async def test_auth_cookies_and_secrets_never_reach_another_host(context: NewContext, target: str, same: bool) -> None:
    """P14: scheme, host and port all count."""
    api = Api(redirect(302, target), answer())
    headers = {"Cookie": "a=b", "X-Key": {"env": "TOKEN"}, "X-Plain": "kept"}
    await ask(api, context(), headers=headers, auth={"bearer": {"env": "TOKEN"}})
    second = api.requests[1].headers
    assert ["authorization" in second, "cookie" in second, "x-key" in second] == [same] * 3
    assert second["x-plain"] == "kept"


async def test_what_was_left_out_for_another_host_stays_left_out_on_the_way_back(context: NewContext) -> None:
    api = Api(redirect(302, "https://evil.test/"), redirect(302, URL), answer(401))
    failed = await refusal(api, context(), auth={"bearer": {"env": "TOKEN"}})
    assert ["authorization" in request.headers for request in api.requests] == [True, False, False]
    assert "auth was not sent there, as a redirect led to another host" in failed.message


async def test_a_form_with_secrets_does_not_follow_to_another_host(context: NewContext) -> None:
    api = Api(redirect(307, "https://evil.test/"), answer())
    failed = await refusal(api, context(), method="POST", form={"password": {"env": "PASSWORD"}}, retry_unsafe=True)
    assert "would take the form's secrets to another host" in failed.message
    assert (len(api.requests), failed.retriable) == (1, False)


@pytest.mark.parametrize(("bound", "requests"), [(5, 6), (2, 3), (0, 1)])
async def test_redirects_without_end_are_counted(context: NewContext, bound: int, requests: int) -> None:
    api = Api(lambda request: redirect(302, f"/{len(api.requests)}"))
    failed = await refusal(api, context(), max_redirects=bound)
    assert failed.message.endswith(f"more redirects than max_redirects, {bound}")
    assert len(api.requests) == requests


async def test_a_redirect_is_an_answer_where_it_is_not_followed(context: NewContext) -> None:
    api = Api(redirect(302, "/elsewhere"))
    result = await ask(api, context(), follow_redirects=False, expected_status=302)
    assert (result["status"], len(api.requests)) == (302, 1)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "javascript:alert(1)", "http://"])
async def test_a_redirect_leads_to_http_or_nowhere(context: NewContext, location: str) -> None:
    failed = await refusal(Api(redirect(302, location), answer()), context())
    assert "the redirect leads" in failed.message


# The allow-list


async def test_an_allowed_host_is_reached_at_the_address_that_was_checked(context: NewContext) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return {"api.test": ["93.184.215.14"]}[host]

    api = Api(answer())
    flow = HttpRequestFlow(transport=httpx.MockTransport(api), resolver=resolve)
    await flow.run({"url": URL, "allowed_hosts": ["api.test"]}, context())
    (request,) = api.requests
    assert request.url.host == "93.184.215.14"
    assert request.headers["host"] == "api.test"
    assert request.extensions["sni_hostname"] == "api.test"


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("https://evil.test/", "allowed_hosts does not hold evil.test:443"),
        ("https://inner.test/", "inner.test leads to 169.254.169.254, which is not public"),
        ("http://169.254.169.254/latest/meta-data", "allowed_hosts does not hold 169.254.169.254:80"),
    ],
)
async def test_every_redirect_is_checked_as_well(context: NewContext, location: str, says: str) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return {"api.test": ["93.184.215.14"], "inner.test": ["169.254.169.254"]}[host]

    api = Api(redirect(302, location), answer())
    flow = HttpRequestFlow(transport=httpx.MockTransport(api), resolver=resolve)
    with pytest.raises(FlowFailed) as failed:
        await flow.run({"url": URL, "allowed_hosts": ["api.test", "inner.test"]}, context())
    assert says in failed.value.message
    assert (len(api.requests), failed.value.retriable) == (1, False)


async def test_the_next_checked_address_is_tried_when_one_does_not_answer(context: NewContext) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.215.14", "93.184.215.15"]

    api = Api(httpx.ConnectError("no"), answer())
    flow = HttpRequestFlow(transport=httpx.MockTransport(api), resolver=resolve)
    await flow.run({"url": URL, "allowed_hosts": ["api.test"]}, context())
    assert [request.url.host for request in api.requests] == ["93.184.215.14", "93.184.215.15"]


async def test_faulty_parameters_fail_without_a_retry(context: NewContext) -> None:
    api = Api(answer())
    failed = await refusal(api, context(), metod="GET")
    assert (failed.message, failed.retriable) == (
        'metod: http_request has no such parameter; did you mean "method"?',
        False,
    )
    assert api.requests == []
