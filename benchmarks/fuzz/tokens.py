"""What is put into an answer: values as they stand in JSON text, names, header values, and plain bytes."""

import json

_TEXTS = (
    *("SUCCESS", "completed", "succeed", "FAILED", "failed", "cancelled", "expired", "error", "pending"),
    *("IN_PROGRESS", "processing", "submitted", "queued", " Completed ", "in-progress", "paused", "unheard-of"),
    *("success", "ok", "200", "0", "400", "401", "402", "403", "404", "408", "409", "422", "429", "500", "503", "HTTP"),
    *("n75abc123kling3", "n75xxxx_kling3", "job_abc123xyz789", "task_01KV0000000000000000000000", "task_abc123"),
    *("a", "-._~:@!$&'()*+,;=", "x" * 128, "x" * 129, ".", "..", "../../admin", "a/b?c#d", "%2e%2e%2f", "a b", "a\\b"),
    *("https://cdn.example.com/videos/abc123.mp4", "http://e.com/a.mp4?signature=s&x=%00", "HTTPS://E.COM/A.MP4"),
    *("file:///etc/passwd", "javascript:alert(1)", "data:video/mp4;base64,AAAA", "ftp://e.com/a", "//e.com/a.mp4"),
    *("http://[::1", "http://user:pw@e.com/", "http://169.254.169.254/latest", "http:", ":", "https://e.com/a b.mp4"),
    *("https://e.com/\u202e4pm.exe", "https://e.com/\x00", "https://e.com/\ud800", "https://e.com/\r\nX: 1"),
    *("https://bücher.example/a.mp4", "https://e.com/" + "a" * 8170, "https://e.com/" + "a" * 9000),
    *("INVALID_PROMPT", "INVALID_DURATION", "INVALID_TYPE", "MISSING_IMAGE", "MISSING_VIDEO", "INVALID_API_KEY"),
    *("INSUFFICIENT_CREDITS", "RATE_LIMITED", "INTERNAL_ERROR", "invalid_request", "authentication_error"),
    *("insufficient_credits", "rate_limit_exceeded", "internal_error", "payment_required", "permission_error"),
    *("rate_limit_error", "server_error", "bad_gateway", "apimart_error", "task_failed", "get_channel_failed"),
    *("build_request_failed", "idempotency_in_progress", "idempotency_key_reused", "idempotency_unavailable"),
    *("idempotency_result_indeterminate", "idempotency_unavailable: later", "Insufficient account balance."),
    *("", " ", "\n", "null", "None", "true", "NaN", "Infinity", "1e999", "-1", "-0", "1_0", "١٢", "²³", "0x1F", "%"),
    *("45%", "45 %", "100", "101%", "5.04", "8.52", "1E-999999999", "1E999999999", "sNaN", "9" * 41, "0." + "1" * 39),
    *("2026-02-05T10:30:00Z", "2026-02-05", "2026-02-05T10:30:00.123456789Z", "0001-01-01T00:00:00Z", "1970-01-01"),
    *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-02-30T99:99:99Z", "2026-W01-1T00", "2026-"),
    *("2026-02-05\ud80010:30", "2026-02-05T10:30:00+99:99", "1781801619", "1781801619000", "253402300800", "1e18"),
    *("\x00", "\x1b[2J\x1b]0;owned\x07", "\x9b31m", "\r\nHTTP/1.1 200 OK", "a\nb", "\u2028\u2029\x85", "e\u0301" * 50),
    *("\u202egnp.exe", "\u2066a\u2069", "\u200b\u200e\u061c", "\ufeff", "\U000e0041", "\uffff", "\ufffd"),
    *("\ud800", "\udfff", "\udc00\ud800", "a\ud83d", "\U0001f6a4", "\uff1dcmd|' /C calc'!A0", "=1+1", "+1", "@x", "'"),
    *("[/nope]", "[link=https://e.com]x[/link]", "<script>alert(1)</script>", "%s%n{0}{x!r}", "${jndi:ldap://e}"),
    *('{"error":{"code":404,"message":"gone","status":"NOT_FOUND"}}', '{"error":{"message":"x","code":"\x1b\u202e"}}'),
    *('{"message":"x","code":"' + "y" * 3000 + '"}', '{"error":"said plainly"}', '{"error":{"message":[]}}'),
    *(
        '{"a":1',
        '["https://e.com/a.mp4"]',
        '[{"url":["https://e.com/a.mp4"]}]',
        '{"videos":"[[[["}',
        "{" * 50,
        "[" * 50,
    ),
    *('{"videos":"{\\"url\\":\\"https://e.com/a.mp4\\"}"}', "\n {\t}", '{"message":"' + "\\n" * 9 + '"}', "x" * 3000),
)

_VERBATIM = (
    *("null", "true", "false", "0", "1", "200", "201", "400", "401", "402", "403", "404", "408", "409", "422", "429"),
    *("500", "502", "503", "599", "600", "100", "99", "45", "100", "101", "-1", "-0", "0.0", "-0.0", "5.04", "8.52"),
    *("1781801619", "1781801619000", "253402300800", "-62135596801", "1e15", "1e18", "1E-400", "1e308", "1e999"),
    *("-1e999", "NaN", "Infinity", "-Infinity", "9" * 15, "9" * 19, "9" * 30, "9" * 31, "9" * 5000, "0." + "3" * 400),
    *("1000000000", "1000000000.000001", "1000000001", "9223372036854775808", "1e-20", "1e-21", "1" + "0" * 29),
    *("[]", "{}", "[[]]", "[null]", "[{}]", '[""]', '{"":""}', "[1,2,3]", "[" * 33 + "]" * 33, "[" * 20 + "]" * 20),
    *('{"a":' * 40 + "1" + "}" * 40, "[" * 5000, '{"task_id":"task_abc123","status":"pending"}'),
    *('{"url":"https://e.com/a.mp4"}', '["https://e.com/a.mp4"]', '[{"url":["https://e.com/a.mp4"],"expires_at":1}]'),
    *('{"videos":[{"url":"https://e.com/a.mp4"}]}', '{"video_url":"https://e.com/a.mp4"}'),
    *('{"code":"task_failed","message":"no"}', '{"code":429,"message":"slow"}', '{"code":0,"message":""}'),
    *('{"message":"success"}', '[{"msg":"in a list"}]', '{"type":"\\u001b[31m","detail":"\\ud800"}'),
    *("undefined", "None", "01", "1.", ".5", "+1", "'a'", '"\\x"', '"\\u12"', '"\t"', "/**/", "", "1 2", '"a'),
)

VALUES = (
    *(json.dumps(text) for text in _TEXTS),
    *_VERBATIM,
    *(json.dumps(text, ensure_ascii=False) for text in _TEXTS),
)
"""Values as JSON text, sound ones and absurd ones; some are no JSON at all."""

NAMES = (
    *("code", "message", "msg", "data", "task_id", "job_id", "id", "status", "response", "error", "error_message"),
    *("failed_reason", "fail_reason", "error_code", "type", "progress", "duration", "created", "completed", "detail"),
    *("created_at", "completed_at", "estimated_time", "estimated_completion", "expires_at", "result", "videos", "url"),
    *("video_url", "thumbnail_url", "output", "consumed_credits", "credits_consumed", "credits_cost", "credits"),
    *("success", "remain_credits", "remain_balance", "used_credits", "used_balance", "unlimited_quota", "request"),
    *("request_id", "urls", "video", "resource", "resource_without_watermark", "", "\ud800", "\u202e", "\x00"),
    *("__class__",),
)
"""Names of members: what the gateways say, and what nobody says."""

PIECES = (
    *(b"NaN", b"1e999", b"9" * 5000, b"\x00", b"\\u0000", b"\\ud800", b"\\udfff", b"\xe2\x80\xae", b"\xed\xa0\x80"),
    *(b"[" * 40, b"{" * 40, b"]" * 9, b"}", b'"', b"\\", b",", b":", b"[", b"{", b'{"a":', b'"a":1,', b"\xef\xbb\xbf"),
    *(b"\xff", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x1b[31m", b"\r\n\r\n", b"\n", b" ", b"null", b"true", b"-"),
    *(b'"task_id":"task_abc123",', b'"data":[],', b'"error":"x",', b'"code":429,', b'"status":"SUCCESS",'),
)
"""Bytes that are put in anywhere."""

ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "latin-1", "cp1252", "utf-8-sig", "idna")

STRANGERS = (
    *(b"", b" ", b"null", b"[]", b"{}", b'""', b"\x00" * 64, b"\x1f\x8b\x08\x00junk", b"%PDF-1.7", b"\x80\x04\x95."),
    *(b"upstream connect error", b"<!DOCTYPE html><html><title>502 Bad Gateway</title></html>", b"{}" * 9, b"{}\n{}"),
    *(b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", b"callback({})", b")]}',\n{}", b"---\na: 1\n"),
)
"""Bodies that are no answer of these gateways."""

HEADERS = (
    *("retry-after", "x-request-id", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit", "content-type"),
    *("idempotency-replayed", "date", "x-kling"),
)
"""Header fields that somebody reads, or might."""

JUNK = (
    *("", " ", "0", "1", "5", "120", "-1", "NaN", "inf", "-inf", "1e9", "1e308", "1e999", "9" * 400, "1_0"),
    *("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Oct 2026 99:99:99 +9999", "\udcff"),
    *("Mon, 01 Jan 10000 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "tomorrow", "5, 10", "5;q=1"),
    *("1781801619", "1781801619000", "99999999999999999999", "req-1", "\x1b[2J", "\u202e", "a\nb", "x" * 9000, "true"),
    *('"default";r=0;t=60', "limit=10, remaining=0, reset=5", "r=1", "remaining=" + "9" * 40, "%", "TRUE"),
    *("application/json", "\u0663", "0x10", "\x00", "6m0s"),
)
"""What may stand in any of them."""

STATUSES = (
    *(200, 200, 200, 200, 201, 202, 204, 206, 299, 100, 101, 103, 300, 301, 302, 304, 307, 308, 399, 0, 600, 999),
    *(400, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415, 418, 422, 425, 429, 429, 431, 451, 499),
    *(500, 500, 501, 502, 503, 503, 504, 507, 520, 524, 529, 599),
)
