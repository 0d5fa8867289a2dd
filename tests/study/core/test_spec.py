"""What `Spec` relies on in pydantic."""

import pydantic
import pytest

from study.core.spec import Invalid, Mistake, ModelMetaclass, Spec, SpecError, few

CHECKED = "2.14.3"  # the version of pydantic for which `study/core/spec.py` was last checked


class Inner(Spec):
    rate: float


class Outer(Spec):
    name: str
    inner: Inner


def test_pydantic_builds_a_model_by_calling_its_class():
    """A `Spec` defers its errors by overriding the `__call__` of pydantic's metaclass."""
    advice = (
        f"pydantic {pydantic.VERSION} (checked: {CHECKED}) defines `__call__` on the metaclass of "
        "its models. `_DeferredErrors.__call__` in study/core/spec.py must do what it does, or "
        "specs with mistakes raise at once instead of becoming `Invalid`."
    )
    assert ModelMetaclass.__call__ is type.__call__, advice
    assert issubclass(type(Spec), ModelMetaclass), advice


def test_mistakes_of_nested_specs_are_collected_under_their_paths():
    outer = Outer(name=3, inner=Inner(rate="high"))
    assert isinstance(outer, Invalid), f"pydantic {pydantic.VERSION} (checked: {CHECKED})"
    with pytest.raises(SpecError) as error:
        _ = outer.name
    assert [mistake.path for mistake in error.value.mistakes] == ["name", "inner.rate"]


def test_a_long_list_says_how_many_more_there_are():
    rows = [Mistake(f"mine.csv, row {row}, label", "is empty.") for row in range(1, 1701)]
    assert few(rows[:10], "mine.csv") == rows[:10]
    assert few(rows, "mine.csv") == [
        *rows[:10],
        Mistake("mine.csv", "and 1,690 more mistakes like these."),
    ]
