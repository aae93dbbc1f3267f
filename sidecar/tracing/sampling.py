"""Which requests become spans; decided first, so that the others pay nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# Greater than any hexadecimal digit: every trace id lies below it.
_ABOVE_ALL: Final = b"g"
_BELOW_ALL: Final = b"0" * 16


class Sampler:
    """Decides by the caller's decision, or by the trace id.

    Args:
        ratio: Share of traces to sample, 0 to 1. The same trace ids are chosen as by OpenTelemetry's
            ``TraceIdRatioBased``, so that services with the same ratio agree.
        parent_based: Whether a caller's decision is followed, so that ``ratio`` counts only for new traces.
    """

    __slots__ = ("_bound", "parent_based")

    def __init__(self, ratio: float, *, parent_based: bool = True) -> None:
        if not 0 <= ratio <= 1:
            raise ValueError(f"a sampling ratio lies between 0 and 1, unlike {ratio}")
        self.parent_based = parent_based
        bound = round(ratio * (1 << 64))
        self._bound = (_ABOVE_ALL if bound >= 1 << 64 else b"%016x" % bound) if bound else _BELOW_ALL

    @property
    def is_off(self) -> bool:
        """Whether nothing is ever sampled."""
        return not self.parent_based and self._bound == _BELOW_ALL

    def samples(self, trace_id: bytes) -> bool:
        """Whether the ratio chooses a trace, by the low 64 bits of its id (32 lower-case digits)."""
        bound = self._bound
        return bound is not _BELOW_ALL and trace_id[16:] < bound

    def become(self, other: Sampler) -> None:
        """Decide as ``other`` does from now on: the configuration has changed."""
        self.parent_based = other.parent_based
        self._bound = other._bound


OFF: Final = Sampler(0, parent_based=False)
"""Samples nothing, whatever a caller has decided."""

_NEEDS_RATIO: Final = "traceidratio"


def sampler_for(ratio: float, environ: Mapping[str, str]) -> Sampler:
    """The sampler that the standard variables ask for, else one for ``tracing.sample``.

    Args:
        ratio: The configured share; 0 turns tracing off.
        environ: ``OTEL_SDK_DISABLED``, ``OTEL_TRACES_SAMPLER`` and ``OTEL_TRACES_SAMPLER_ARG`` are read.

    Raises:
        ValueError: The sampler's name is unknown, or its argument is no number from 0 to 1.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return OFF
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if not name:
        return Sampler(ratio) if ratio > 0 else OFF
    kind = name.removeprefix("parentbased_")
    ratios = {"always_on": 1.0, "always_off": 0.0}
    if kind == _NEEDS_RATIO:
        ratios[kind] = _ratio(environ.get("OTEL_TRACES_SAMPLER_ARG", ""))
    if kind not in ratios:
        raise ValueError(
            "OTEL_TRACES_SAMPLER is always_on, always_off or traceidratio, with or without parentbased_ "
            f"before it, not {name!r}"
        )
    return Sampler(ratios[kind], parent_based=name != kind)


def _ratio(argument: str) -> float:
    """The argument of ``traceidratio``; 1 if there is none, as the OpenTelemetry specification says."""
    try:
        ratio = float(argument) if argument.strip() else 1.0
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ValueError(f"OTEL_TRACES_SAMPLER_ARG is a number from 0 to 1, not {argument!r}")
    return ratio
