"""The body of a generation at apimart.ai: one endpoint, and a dialect of its own for each model."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from kling_async.gateways.asking import (
    check_duration,
    check_prompt,
    check_public,
    check_shots,
    merged,
    refuse_model,
    refuse_unknown,
)
from kling_async.gateways.refusals import invalid, unsupported
from kling_async.requests import ImageToVideo, ReferenceToVideo, Request, TextToVideo, VideoEdit, default_model

NAME = "apimart"

Clip: TypeAlias = TextToVideo | ImageToVideo

_CLIP = ("duration", "aspect_ratio", "sound", "quality", "image", "watermark")


def body_of_request(request: Request) -> dict[str, Any]:
    """Return the documented body for a request. Raises `InvalidRequestError` for what cannot be asked for."""
    model = default_model(request)
    makes = tuple(name for name, (kinds, _) in _MODELS.items() if isinstance(request, kinds))
    refuse_model(NAME, model, makes, request.kind)
    check_public(NAME, request)
    return merged(_MODELS[model][1](request), request)


def _v3(request: Clip) -> dict[str, Any]:
    """Return the body for `kling-v3`."""
    refuse_unknown(NAME, request, (*_CLIP, "end_image", "negative_prompt", "shots", "subjects"))
    check_prompt(NAME, request, None, shots_instead=True)
    check_duration(NAME, request.duration, 3, 15)
    body = _common("kling-v3", request)
    if isinstance(request, ImageToVideo):
        body["image_urls"] = _frames(request)
    return body | _shots(request, request.duration) | _subjects(request)


def _omni(request: Request) -> dict[str, Any]:
    """Return the body for `kling-v3-omni`: references, edits, and what `kling-v3` does."""
    fields = ("end_image", "negative_prompt", "subjects", "images", "video", "keep_original_sound")
    shots = ("shots",) if isinstance(request, (TextToVideo, ImageToVideo)) else ()
    refuse_unknown(NAME, request, (*_CLIP, *fields, *shots))
    check_prompt(NAME, request, 2500, shots_instead=bool(shots))
    if len(request.negative_prompt or "") > 2500:
        found = f"{len(request.negative_prompt or '')} characters are more than 2500"
        raise invalid(NAME, "negative_prompt", found)
    match request:
        case VideoEdit():
            body = _edit(request)
        case ReferenceToVideo():
            body = _referring(request)
        case _:
            check_duration(NAME, request.duration, 3, 15)
            body = _common("kling-v3-omni", request) | _shots(request, request.duration)
            if isinstance(request, ImageToVideo):
                roles = zip(("first_frame", "last_frame"), _frames(request), strict=False)
                body["image_with_roles"] = [{"url": url, "role": role} for role, url in roles]
    return body | _subjects(request)


def _referring(request: ReferenceToVideo) -> dict[str, Any]:
    check_duration(NAME, request.duration, 3, 15)
    if request.sound and request.video is not None:
        raise unsupported(NAME, "sound", "makes no sound where a video is given")
    body = _common("kling-v3-omni", request)
    if request.images:
        body["image_with_roles"] = [{"url": url, "role": "reference"} for url in request.images]
    if request.video is not None:
        body["video_list"] = [{"video_url": request.video, "refer_type": "feature"}]
        del body["audio"]  # `audio` and `video_list` exclude each other
    return body


def _edit(request: VideoEdit) -> dict[str, Any]:
    # The items' shape is that of the official API, which this page does not repeat.
    sound = "yes" if request.keep_original_sound else "no"
    return {
        "model": "kling-v3-omni",
        "prompt": request.prompt,
        "mode": request.quality,
        "negative_prompt": request.negative_prompt,
        "watermark": request.watermark,
        "video_list": [{"video_url": request.video, "refer_type": "base", "keep_original_sound": sound}],
    }


def _turbo(request: Clip) -> dict[str, Any]:
    """Return the body for `kling-3.0-turbo`: `resolution` instead of `mode`, one first frame, no switch for sound."""
    absent = ("sound",) if isinstance(request, TextToVideo) else ("sound", "aspect_ratio")
    refuse_unknown(NAME, request, tuple(name for name in _CLIP if name not in absent))
    if request.quality == "4k":
        raise unsupported(NAME, "quality", "has no quality 4k for kling-3.0-turbo; it has std, pro")
    check_prompt(NAME, request, 3072)
    check_duration(NAME, request.duration, 3, 15)
    text_only = isinstance(request, TextToVideo)
    return {
        "model": "kling-3.0-turbo",
        "prompt": request.prompt,
        "resolution": {"std": "720p", "pro": "1080p"}[request.quality],
        "duration": request.duration,
        "aspect_ratio": request.aspect_ratio if text_only else None,
        "first_frame_image": None if isinstance(request, TextToVideo) else request.image,
        "watermark": request.watermark,
    }


def _v2_6(request: Clip) -> dict[str, Any]:
    """Return the body for `kling-v2-6`: 5 or 10 seconds, sound with quality pro only."""
    refuse_unknown(NAME, request, (*_CLIP, "end_image", "negative_prompt"))
    check_prompt(NAME, request, 2500)
    if request.duration not in (5, 10):
        raise invalid(NAME, "duration", f"{request.duration} is not one of 5, 10", "INVALID_DURATION")
    if request.quality == "4k":
        raise unsupported(NAME, "quality", "has no quality 4k for kling-2.6; it has std, pro")
    if request.sound and request.quality != "pro":
        raise unsupported(NAME, "sound", "makes sound with kling-2.6 in quality pro only")
    body = _common("kling-v2-6", request)
    if isinstance(request, ImageToVideo):
        body["image_urls"] = _frames(request)
    return body


def _common(model: str, request: TextToVideo | ImageToVideo | ReferenceToVideo) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": request.prompt or None,
        "mode": request.quality,
        "duration": request.duration,
        "aspect_ratio": request.aspect_ratio,
        "audio": request.sound,
        "negative_prompt": request.negative_prompt,
        "watermark": request.watermark,
    }


def _frames(request: ImageToVideo) -> list[str]:
    """Return the first frame, then the last one if there is one: a last frame alone is invalid."""
    return [url for url in (request.image, request.end_image) if url is not None]


def _shots(request: Request, duration: int) -> dict[str, Any]:
    if not request.shots:
        return {}
    check_shots(NAME, request.shots, duration, 6, 512)
    shots = [
        {"index": index, "prompt": shot.prompt, "duration": shot.duration}
        for index, shot in enumerate(request.shots, 1)
    ]
    return {"multi_shot": True, "shot_type": "customize", "multi_prompt": shots}


def _subjects(request: Request) -> dict[str, Any]:
    if not request.subjects:
        return {}
    if len(request.subjects) > 3:
        raise invalid(NAME, "subjects", f"{len(request.subjects)} subjects are more than 3")
    for subject in request.subjects:
        if not 2 <= len(subject.images) <= 4:
            found = f"{subject.name} has {len(subject.images)} images, not 2 to 4"
            raise invalid(NAME, "subjects", found)
    subjects = [
        {"name": subject.name, "description": subject.description, "element_input_urls": list(subject.images)}
        for subject in request.subjects
    ]
    return {"element_list": subjects}


_CLIPS = (TextToVideo, ImageToVideo)
_ALL = (TextToVideo, ImageToVideo, ReferenceToVideo, VideoEdit)

_MODELS: Mapping[str, tuple[tuple[type, ...], Callable[[Any], dict[str, Any]]]] = {
    "kling-3.0": (_CLIPS, _v3),
    "kling-o3": (_ALL, _omni),
    "kling-3.0-turbo": (_CLIPS, _turbo),
    "kling-2.6": (_CLIPS, _v2_6),
}
