"""What a table's numbers hold for: device, runtime and how it was run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..arch.errors import short_key, short_repr
from .errors import LatencyError

DEVICES = ("cpu", "cuda")
RUNTIMES = ("eager", "compile", "onnxruntime", "onnxruntime-int8")
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Setting:
    """The conditions under which latencies are comparable; two tables that differ here must not be mixed.

    Attributes:
        device: "cpu" or "cuda"; for imported and fitted tables any name, such as "raspi4".
        processor: the model's name.
        runtime: one of ``RUNTIMES``; for imported tables any name.
        threads: of one operator; None where nobody recorded them, as with the next four.
        batch_size: images.
        dtype: of weights and activations.
        channels_last: memory format of activations.
        versions: of the libraries that run the operators.
        method: "network" (timed inside whole networks), "isolated" (timed alone), "fit" or "import".
    """

    device: str
    processor: str
    runtime: str
    threads: int | None = None
    batch_size: int | None = None
    dtype: str | None = None
    channels_last: bool | None = None
    versions: dict[str, str] = field(default_factory=dict)
    method: str = "network"

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Setting:
        """Raises LatencyError: an unknown or missing key, or a value of the wrong type."""
        if not isinstance(data, dict):
            raise LatencyError(f"setting: got {short_repr(data)}, expected a mapping")
        known = {one.name: one for one in dataclasses.fields(cls)}
        for key in data:
            if key not in known:
                raise LatencyError(f"setting.{short_key(key)}: unknown key, expected one of {', '.join(known)}")
        for key in known:
            value = data.get(key)
            if key == "versions":
                good = isinstance(value, dict) and all(isinstance(one, str) for pair in value.items() for one in pair)
                accepted = "a mapping from names to versions, both texts"
            elif key in ("threads", "batch_size"):
                good, accepted = value is None or (type(value) is int and value > 0), "null or an integer of at least 1"
            elif key == "channels_last":
                good, accepted = value is None or type(value) is bool, "null, true or false"
            else:
                good, accepted = isinstance(value, str), "a text"
                if key == "dtype":
                    good, accepted = good or value is None, "null or a text"
            if not good:
                raise LatencyError(f"setting.{key}: got {short_repr(value)}, expected {accepted}")
        return cls(**data)

    def differences(self, other: Setting) -> list[tuple[str, Any, Any]]:
        """(key, here, there) of all that differs; ``versions`` key by key."""
        ours, theirs = ({**one.to_dict(), **one.versions} for one in (self, other))
        keys = [key for key in {**ours, **theirs} if key != "versions"]
        return [(key, ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)]

    def require(self, other: Setting, here: str, there: str) -> None:
        """Refuses to use numbers of one setting with another.

        Args:
            other: the setting that has to be the same.
            here, there: names of the two, for the message.

        Raises:
            LatencyError: they differ; names both, with every value in which they do.
        """
        differences = self.differences(other)
        if differences:
            ours = ", ".join(f"{key} {mine}" for key, mine, _ in differences)
            theirs = ", ".join(f"{key} {other}" for key, _, other in differences)
            raise LatencyError(f"{here} and {there} are not comparable: {here} has {ours}; {there} has {theirs}")

    def flags(self) -> str:
        """The options of ``tools/benchmark_latency.py`` that measure under this setting, as far as it knows them."""
        words = [f"--device {self.device}"] if self.device in DEVICES else []
        words += [f"--runtime {self.runtime}"] if self.runtime in RUNTIMES else []
        dtype = self.dtype if self.dtype in DTYPES else None
        for name, value in (("threads", self.threads), ("batch-size", self.batch_size), ("dtype", dtype)):
            words += [f"--{name} {value}"] if value is not None else []
        words += ["--channels-last"] if self.channels_last else []
        return " ".join(words + (["--method isolated"] if self.method == "isolated" else []))

    def __str__(self) -> str:
        versions = [f"{name} {version}" for name, version in self.versions.items()]
        words = [self.processor, self.runtime, *versions]
        words += [f"{self.threads} thread{'s' * (self.threads != 1)}"] if self.threads else []
        words += [f"batch {self.batch_size}"] if self.batch_size else []
        return ", ".join(words + ([self.dtype] if self.dtype else []) + ["channels-last"] * bool(self.channels_last))
