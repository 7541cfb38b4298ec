"""What a table's numbers hold for: device, runtime and how it was run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

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
            raise LatencyError(f"setting: got {data!r}, expected a mapping")
        known = {one.name: one for one in dataclasses.fields(cls)}
        for key in data:
            if key not in known:
                raise LatencyError(f"setting.{key}: unknown key, expected one of {', '.join(known)}")
        kinds: dict[str, tuple[type, ...]] = {"threads": (int,), "batch_size": (int,), "channels_last": (bool,)}
        for key in known:
            value = data.get(key)
            if key == "versions":
                good = isinstance(value, dict) and all(isinstance(one, str) for pair in value.items() for one in pair)
            elif key in ("device", "processor", "runtime", "method"):
                good = isinstance(value, str)
            else:
                good = value is None or type(value) in kinds.get(key, (str,))
            if not good:
                raise LatencyError(f"setting.{key}: got {value!r}, expected a value of the right type")
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
        """The options of ``tools/benchmark_latency.py`` that measure under this setting."""
        words = [f"--device {self.device}", f"--runtime {self.runtime}"]
        for name, value in (("threads", self.threads), ("batch-size", self.batch_size), ("dtype", self.dtype)):
            words += [f"--{name} {value}"] if value is not None else []
        words += ["--channels-last"] if self.channels_last else []
        return " ".join(words + (["--method isolated"] if self.method == "isolated" else []))

    def __str__(self) -> str:
        versions = [f"{name} {version}" for name, version in self.versions.items()]
        words = [self.processor, self.runtime, *versions]
        words += [f"{self.threads} thread{'s' * (self.threads != 1)}"] if self.threads else []
        words += [f"batch {self.batch_size}"] if self.batch_size else []
        return ", ".join(words + ([self.dtype] if self.dtype else []) + ["channels-last"] * bool(self.channels_last))
