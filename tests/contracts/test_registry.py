"""Everything that is defined is registered and exported: techniques, spaces, models, tasks."""

import importlib
import inspect
import pkgutil

import pytest

import study
import study.models
import study.models.catalogue
import study.tasks
import study.tasks.catalogue
import study.techniques
from search_spaces import SPACES
from study.models import MODELS, Model
from study.tasks import TASKS, Task
from study.techniques import TECHNIQUES, Combined, Technique
from tests.examples import EXAMPLES


def defined_techniques() -> set[type[Technique]]:
    """The technique classes that modules of `study.techniques` define."""
    found: set[type[Technique]] = set()
    for info in pkgutil.iter_modules(study.techniques.__path__, "study.techniques."):
        module = importlib.import_module(info.name)
        classes = [value for _, value in inspect.getmembers(module, inspect.isclass)]
        found |= {c for c in classes if issubclass(c, Technique) and c.__module__ == info.name}
    return found - {Technique, Combined}


def test_every_technique_is_registered_under_its_class_name():
    assert set(TECHNIQUES.values()) == defined_techniques()
    assert {name: cls.__name__ for name, cls in TECHNIQUES.items()} == {n: n for n in TECHNIQUES}


def test_every_technique_has_a_search_space_and_an_example():
    assert set(SPACES) == set(TECHNIQUES)
    assert set(EXAMPLES) == set(TECHNIQUES)
    assert {name: type(example) for name, example in EXAMPLES.items()} == TECHNIQUES


def test_every_technique_is_exported():
    assert set(study.techniques.__all__) <= set(study.__all__)
    assert {*TECHNIQUES, "TECHNIQUES", "Technique", "Combined"} <= set(study.techniques.__all__)


@pytest.mark.parametrize(
    ("package", "cls", "registry"),
    [(study.models, Model, MODELS), (study.tasks, Task, TASKS)],
    ids=["models", "tasks"],
)
def test_every_entry_of_a_catalogue_is_registered_and_exported(package, cls, registry):
    constants = vars(package.catalogue)
    defined = {name for name, value in constants.items() if isinstance(value, cls)}
    assert defined
    assert defined <= set(package.__all__)
    assert {constants[name].name for name in defined} == set(registry)
    assert all(getattr(package, name) is constants[name] for name in defined)


@pytest.mark.parametrize("package", [study, study.models, study.tasks, study.techniques])
def test_every_exported_name_exists_once(package):
    assert len(set(package.__all__)) == len(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)
