"""Answers that no gateway should give and every adapter must survive, for `kling_async.contract`."""

STATUSES = (
    200,
    201,
    204,
    302,
    400,
    401,
    402,
    403,
    404,
    408,
    409,
    413,
    422,
    425,
    429,
    500,
    502,
    503,
    504,
    529,
    599,
)

UNREADABLE = (
    b"",
    b" ",
    b"null",
    b"true",
    b"12",
    b"-1e999",
    b"NaN",
    b'"success"',
    b"[]",
    b"[[]]",
    b"{",
    b'{"code": 200, "data": {"task_id": "n75abc',
    b"not json",
    b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>",
    b"\xff\xfe{\x00}\x00",
    '{"code": 200, "message": "success"}'.encode("utf-16"),
    b'{"message": "\xff\xfe\xfa"}',
    b"\x00" * 64,
    b"\x1f\x8b\x08\x00junk",
    b"[" * 5000,
    b'{"a":' * 5000,
    b"[]" * 40 + b'"' + b'\\"' * 20000,
)
"""Bodies that nobody can take for an answer of any kind."""

_IDS = (
    b"null",
    b"true",
    b"1.5",
    b"-0.0",
    b"[]",
    b"{}",
    b'["n75abc"]',
    b'""',
    b'"."',
    b'".."',
    b'"../../admin"',
    b'"..%2f..%2fadmin"',
    b'"a?b=c#d"',
    b'"a b"',
    b'"a\\r\\nX-Evil: 1"',
    b'"a\\u0000b"',
    b'"\\u001b[2J"',
    b'"\\u202eabc"',
    b'"\\ud800"',
    b'"' + b"a" * 129 + b'"',
    b'"' + b"a" * 5000 + b'"',
    b"9" * 40,
    b"1e999",
    b"NaN",
    '"\uff4e\uff17\uff15"'.encode(),
)
_SHAPES = (
    b'{"code": 200, "data": {"task_id": @, "id": @, "job_id": @}}',
    b'{"code": 200, "data": [{"task_id": @}]}',
    b'{"code": 200, "data": @}',
    b'{"task_id": @, "id": @, "job_id": @, "status": "pending"}',
)
_VALUES = (
    b"null",
    b"true",
    b"0",
    b"-1",
    b"1e999",
    b"-1e999",
    b"NaN",
    b"9" * 5000,
    b"1E-400",
    b'"1E-999999999"',
    b'"NaN"',
    b'"\\u00b2\\u00b3\\u00b2"',
    b'"%"',
    b'""',
    b'" "',
    b"[]",
    b"[null]",
    b"[[[[[]]]]]",
    b"{}",
    b'{"a": {"b": {"c": []}}}',
    b'"{\\"error\\": {\\"message\\": 1, \\"code\\": []}}"',
    b'"[[[[[["',
    b'"{\\"message\\": \\"x\\", \\"code\\": \\"\\\\u001b\\\\ud800\\"}"',
    b'"one line\\r\\nand a second"',
    b'{"\\udfff": ["\\ud800"]}',
    b"1000000000.01",
    b'"\\ud800\\u202e\\u0000\\u001b[31m"',
    b'"' + b"x" * 100_000 + b'"',
    b'"0001-01-01T00:00:00Z"',
    b'"9999-12-31T23:59:59-23:59"',
    b'"2026-02-30T99:99:99Z"',
    b"253402300800",
    b"99999999999999999999",
)
_FACTS = (
    b"status code message error error_message error_code detail progress duration credits credits_cost "
    b"consumed_credits cost created created_at completed completed_at estimated_time estimated_completion expires_at "
    b"url video_url thumbnail_url response result output request_id success remain_balance remain_credits "
    b"used_balance unlimited_quota"
)


def _spoilt() -> tuple[bytes, ...]:
    ids = tuple(shape.replace(b"@", value) for shape in _SHAPES for value in _IDS)
    facts = tuple(
        shape.replace(b"@", b'"job-1", "%s": %s' % (name, value), 1).replace(b"@", b'"job-1"')
        for shape in (b'{"code": 200, "data": {"task_id": @, "job_id": @, "id": @}}', b'{"job_id": @, "id": @}')
        for name in _FACTS.split()
        for value in _VALUES
    )
    return ids + facts


BODIES = (*UNREADABLE, *_spoilt())
"""Every hostile body: what is no answer at all, and answers of the usual shapes with one absurd fact in them."""
