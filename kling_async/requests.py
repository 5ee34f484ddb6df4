"""What is asked for. Frozen values that refuse, when they are made, what no gateway takes."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, ClassVar, TypeAlias
from urllib.parse import urlsplit

from attrs import field, fields, frozen

from kling_async.errors import Fault, InvalidRequestError, shown

QUALITIES = ("std", "pro", "4k")
ASPECT_RATIOS = ("16:9", "9:16", "1:1")
SHORTEST, LONGEST = 3, 120
DEEPEST = 16
"""Of what is in `extra`: a gateway that echoes it must still be understood, and answers have their own limit."""
MAX_ITEMS = 100
"""Of shots, subjects or pictures: many more than any gateway takes."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _text(name: str, value: object, code: str = "INVALID_PARAMETER") -> Iterator[Fault]:
    if not isinstance(value, str):
        yield Fault(name, code, f"{shown(value)} is not text")
    elif value.isprintable():
        return
    elif _CONTROL.search(value):
        yield Fault(name, code, "holds a control character")
    elif _SURROGATE.search(value):
        yield Fault(name, code, "holds half of a surrogate pair, which is not text")


def _filled(name: str, value: object, code: str = "INVALID_PARAMETER") -> Iterator[Fault]:
    if isinstance(value, str) and not value.strip():
        yield Fault(name, code, "is empty")
    else:
        yield from _text(name, value, code)


def _whole(name: str, value: object, low: int, high: int, code: str = "INVALID_PARAMETER") -> Iterator[Fault]:
    if not isinstance(value, int) or isinstance(value, bool):
        yield Fault(name, code, f"{shown(value)} is not a whole number")
    elif not low <= value <= high:
        yield Fault(name, code, f"{shown(value)} is not between {low} and {high}")


def _flag(name: str, value: object) -> Iterator[Fault]:
    if not isinstance(value, bool):
        yield Fault(name, "INVALID_PARAMETER", f"{shown(value)} is not true or false")


def _choice(name: str, value: object, choices: tuple[str, ...]) -> Iterator[Fault]:
    if not isinstance(value, str) or value not in choices:
        yield Fault(name, "INVALID_PARAMETER", f"{shown(value)} is not one of {', '.join(choices)}")


def _url(name: str, value: object, code: str = "INVALID_PARAMETER") -> Iterator[Fault]:
    if not isinstance(value, str):
        yield Fault(name, code, f"{shown(value)} is not a URL")
        return
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if value.startswith("data:"):
        sound = True
    if not sound or re.search(r"[\s\\]", value) or not value.isprintable():
        yield Fault(name, code, f"{shown(value)} is not a URL that starts with https:// or http://")


def _items(name: str, value: object, kind: type) -> Iterator[Fault]:
    if not isinstance(value, tuple):
        yield Fault(name, "INVALID_PARAMETER", f"{shown(value)} is not a list")
        return
    if len(value) > MAX_ITEMS:
        yield Fault(name, "INVALID_PARAMETER", f"{len(value)} {name} are more than {MAX_ITEMS}")
        return
    for item in value:
        if not isinstance(item, kind):
            yield Fault(name, "INVALID_PARAMETER", f"{shown(item)} is not a {kind.__name__}")


def _extra(value: object) -> Iterator[Fault]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        yield Fault("extra", "INVALID_PARAMETER", f"{shown(value)} is not an object with named values")
        return
    if not value:
        return
    try:
        json.dumps(dict(value), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        yield Fault("extra", "INVALID_PARAMETER", "holds something that is not JSON")
        return
    if _depth(value) > DEEPEST:
        yield Fault("extra", "INVALID_PARAMETER", f"is nested more than {DEEPEST} deep")


def _depth(value: object) -> int:
    if isinstance(value, Mapping):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, (list, tuple)) else 0


def _as_tuple(value: Any) -> Any:
    """Turn a list into a tuple; anything else is left for the check to refuse by name."""
    if isinstance(value, (tuple, str, bytes, Mapping)) or not isinstance(value, Iterable):
        return value
    return tuple(value)


def _own_copy(value: Any) -> Any:
    if value == {}:
        return {}
    return json.loads(json.dumps(dict(value))) if isinstance(value, Mapping) and not any(_extra(value)) else value


def _refuse(faults: Iterable[Fault]) -> None:
    found = list(faults)
    if found:
        raise InvalidRequestError.of(found)


@frozen
class Shot:
    """One shot of a video in several shots.

    Args:
        prompt: what is seen.
        duration: seconds, a whole number of at least 1; the shots' durations add up to the request's.
    """

    prompt: str
    duration: int

    def __attrs_post_init__(self) -> None:
        _refuse(
            [
                *_filled("prompt", self.prompt, "INVALID_PROMPT"),
                *_whole("duration", self.duration, 1, LONGEST, "INVALID_DURATION"),
            ]
        )


@frozen
class Subject:
    """Somebody or something that keeps its looks; the prompt refers to it as ``@name``.

    Args:
        name: the name used in the prompt.
        description: what it is.
        images: URLs of pictures of it, the frontal one first.
    """

    name: str
    description: str
    images: tuple[str, ...] = field(converter=_as_tuple)

    def __attrs_post_init__(self) -> None:
        faults = [*_filled("name", self.name), *_filled("description", self.description)]
        faults += _items("images", self.images, str)
        if not faults and not self.images:
            faults.append(Fault("images", "MISSING_IMAGE", "needs at least one image"))
        if not faults:
            faults += [fault for url in self.images for fault in _url("images", url)]
        _refuse(faults)


@frozen(kw_only=True)
class _Request:
    """What every kind of request has."""

    kind: ClassVar[str]

    prompt: str = field(default="", kw_only=False)
    model: str | None = None
    quality: str = "std"
    negative_prompt: str | None = None
    cfg_scale: float | None = None
    shots: tuple[Shot, ...] = field(default=(), converter=_as_tuple)
    subjects: tuple[Subject, ...] = field(default=(), converter=_as_tuple)
    watermark: bool | None = None
    fps: int | None = None
    extra: Mapping[str, Any] = field(factory=dict, converter=_own_copy, hash=False)

    def __attrs_post_init__(self) -> None:
        _refuse(self._faults())

    def _faults(self) -> Iterator[Fault]:
        if self.prompt == "" and self.shots:
            pass
        else:
            yield from _filled("prompt", self.prompt, "INVALID_PROMPT")
        if self.model is not None:
            yield from _filled("model", self.model, "INVALID_TYPE")
        yield from _choice("quality", self.quality, QUALITIES)
        if self.negative_prompt is not None:
            yield from _text("negative_prompt", self.negative_prompt)
        yield from _scale(self.cfg_scale)
        yield from _items("shots", self.shots, Shot)
        yield from _items("subjects", self.subjects, Subject)
        if self.watermark is not None:
            yield from _flag("watermark", self.watermark)
        if self.fps is not None:
            yield from _whole("fps", self.fps, 1, 240)
        yield from _extra(self.extra)


def _scale(value: object) -> Iterator[Fault]:
    if value is None:
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:  # noqa: PLR0124 - NaN
        yield Fault("cfg_scale", "INVALID_PARAMETER", f"{shown(value)} is not a number")
    elif not 0 <= value <= 1:
        yield Fault("cfg_scale", "INVALID_PARAMETER", f"{shown(value)} is not between 0 and 1")


@frozen(kw_only=True)
class _Clip(_Request):
    """A request whose length, shape and sound are the user's choice."""

    longest: ClassVar[int] = 15

    duration: int = 5
    aspect_ratio: str = "16:9"
    sound: bool = False

    def _faults(self) -> Iterator[Fault]:
        yield from super()._faults()
        yield from _whole("duration", self.duration, SHORTEST, self.longest, "INVALID_DURATION")
        yield from _choice("aspect_ratio", self.aspect_ratio, ASPECT_RATIOS)
        yield from _flag("sound", self.sound)


@frozen(kw_only=True)
class TextToVideo(_Clip):
    """A video from words.

    Args:
        prompt: what is seen; may be left out where `shots` are given.
        duration: seconds, a whole number from 3 to 120 (default 5); each gateway has its own limits.
        aspect_ratio: "16:9" (default), "9:16" or "1:1".
        model: None (default) means "kling-3.0".
        quality: "std" (default, 720p), "pro" (1080p) or "4k".
        sound: whether sound is generated (default False); always sent, since it costs money.
        negative_prompt: what should not be seen.
        cfg_scale: how closely the prompt is followed, 0.0 to 1.0.
        shots: `Shot`s, whose durations add up to `duration`.
        subjects: `Subject`s that keep their looks.
        watermark: whether the gateway puts its mark on the video; None leaves it to the gateway.
        fps: frames per second; None leaves it to the gateway.
        extra: fields merged into the gateway's body verbatim, last, and may override.

    Raises:
        InvalidRequestError: a wrong type, or a value that no gateway takes. It is also a `ValueError`.
    """

    kind = "text-to-video"
    longest = LONGEST


@frozen(kw_only=True)
class ImageToVideo(_Clip):
    """A video that begins with a picture. Beyond what `TextToVideo` has:

    Args:
        image: URL of the first frame.
        end_image: URL of the last frame, or None.
        duration: seconds, 3 to 15.
    """

    kind = "image-to-video"

    image: str | None = None
    end_image: str | None = None

    def _faults(self) -> Iterator[Fault]:
        yield from super()._faults()
        if self.image is None or self.image == "":
            yield Fault("image", "MISSING_IMAGE", "an image-to-video needs the URL of an image")
        else:
            yield from _url("image", self.image)
        if self.end_image is not None:
            yield from _url("end_image", self.end_image)


@frozen(kw_only=True)
class ReferenceToVideo(_Clip):
    """A video guided by pictures or a video. Beyond what `TextToVideo` has (model None means "kling-o3"):

    Args:
        images: URLs of reference pictures.
        video: URL of a reference video, or None. One of the two must be given.
        duration: seconds, 3 to 15.
    """

    kind = "reference-to-video"

    images: tuple[str, ...] = field(default=(), converter=_as_tuple)
    video: str | None = None

    def _faults(self) -> Iterator[Fault]:
        yield from super()._faults()
        wrong = list(_items("images", self.images, str))
        yield from wrong or [fault for url in self.images for fault in _url("images", url)]
        if self.video is not None:
            yield from _url("video", self.video)
        if not wrong and not self.images and self.video is None:
            yield Fault("images", "MISSING_IMAGE", "a reference-to-video needs images or a video")


@frozen(kw_only=True)
class VideoEdit(_Request):
    """An existing video changed by words; as long, as wide and as loud as its source (model None means "kling-o3").

    Args:
        prompt: what to change.
        video: URL of the video.
        keep_original_sound: whether the source's sound stays (default True).
    """

    kind = "video-edit"

    video: str | None = None
    keep_original_sound: bool = True

    def _faults(self) -> Iterator[Fault]:
        yield from super()._faults()
        if self.video is None or self.video == "":
            yield Fault("video", "MISSING_VIDEO", "a video-edit needs the URL of a video")
        else:
            yield from _url("video", self.video)
        yield from _flag("keep_original_sound", self.keep_original_sound)


Request: TypeAlias = TextToVideo | ImageToVideo | ReferenceToVideo | VideoEdit

KINDS: Mapping[str, type[Request]] = {
    kind.kind: kind for kind in (TextToVideo, ImageToVideo, ReferenceToVideo, VideoEdit)
}


def default_model(request: Request) -> str:
    """Return the model that `model=None` stands for."""
    return request.model or ("kling-3.0" if isinstance(request, (TextToVideo, ImageToVideo)) else "kling-o3")


def said(request: Request) -> dict[str, Any]:
    """Return the fields of a request that differ from their defaults, and the prompt."""
    told = {}
    for name, default in defaults_of(request.kind):
        value = getattr(request, name)
        if value != default or name == "prompt":
            told[name] = value
    return told


@cache
def defaults_of(kind: str) -> tuple[tuple[str, Any], ...]:
    """Return the name and the default of each field that this kind of request has."""
    return tuple((each.name, {} if each.name == "extra" else each.default) for each in fields(KINDS[kind]))
