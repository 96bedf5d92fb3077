"""For authors of model adapters and tasks: a fake adapter to test a task with, and a suite to test an adapter with.

Test a task, or anything else that needs a model, without weights:

    adapter_class = fake_adapter(FakeMatcher, faults=Faults(oom_above=4))
    ...
    assert adapter_class.calls.batches["match"] == [4, 4, 2]

Test an adapter; every check is one pytest test:

    from evalkit.testing import AdapterConformance
    from my_package import MyAdapter

    class TestMyAdapter(AdapterConformance):
        adapter = MyAdapter
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.testing.fake import Calls, FakeEncoder, FakeEverything, FakeMatcher, Faults, fake_adapter

if TYPE_CHECKING:
    from evalkit.testing.conformance import AdapterConformance

__all__ = ["AdapterConformance", "Calls", "FakeEncoder", "FakeEverything", "FakeMatcher", "Faults", "fake_adapter"]


def __getattr__(name: str) -> Any:
    if name == "AdapterConformance":  # needs pytest and numpy, which the fake adapters do without
        from evalkit.testing.conformance import AdapterConformance  # noqa: PLC0415 # see above

        return AdapterConformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
