"""What reading a file must come to: a spec that is good in every way, or an ArchError."""

from __future__ import annotations

from fbnet_plugin.arch import ArchError, ArchSpec, batch_cost, dump_arch, parse_arch


def check(text: str) -> ArchSpec | None:
    """Reads ``text``; the spec if it is one, None if it is an ArchError as it should be."""
    try:
        spec = parse_arch(text, "net.yaml")
    except ArchError as error:
        assert str(error).startswith("net.yaml: ") and str(error).isprintable(), repr(str(error))
        return None
    check_spec(spec)
    return spec


def check_spec(spec: ArchSpec) -> None:
    again = parse_arch(dump_arch(spec))
    assert again == spec and hash(again) == hash(spec)
    assert dump_arch(again) == dump_arch(spec)
    cost = spec.cost()
    assert all(type(count) is int and count >= 0 for count in cost)
    assert tuple(int(counts[0]) for counts in batch_cost([spec])) == cost
