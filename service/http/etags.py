"""Conditional requests: a response that the client already has is not sent again."""

from collections.abc import Mapping

from fastapi import Request, Response, status


def respond(
    request: Request,
    content: str | bytes,
    *,
    media_type: str,
    etag: str,
    headers: Mapping[str, str],
) -> Response:
    """Answer with content, or with 304 to a client that has it.

    Args:
        request: Its `If-None-Match` says what the client has.
        content: The body.
        media_type: Its type.
        etag: Names this content and no other, without quotes.
        headers: What else to send, both times.
    """
    sent = {**headers, "ETag": f'"{etag}"'}
    if has(request, etag):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=sent)
    return Response(content, media_type=media_type, headers=sent)


def has(request: Request, etag: str) -> bool:
    """Return whether the client says that it has this content, so that it need not be read."""
    return _matches(request.headers.get("if-none-match"), f'"{etag}"')


def _matches(if_none_match: str | None, etag: str) -> bool:
    """Compare as RFC 9110, section 13.1.2 asks: weakly, against any of a list."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]
