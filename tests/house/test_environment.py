"""The lists of dependencies agree: pyproject.toml, constraints.txt and environment.yml."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
PIN_LINES = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")
]
PINS = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in PIN_LINES)}
# The extra `test` includes the project itself with another extra: that is no package to pin.
REQUIREMENTS = [
    requirement
    for listed in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for requirement in map(Requirement, listed)
    if requirement.name != PROJECT["name"]
]


def conda_version(package):
    """The version that environment.yml asks conda for."""
    (version,) = (
        line.removeprefix(f"{package}=")
        for line in ENVIRONMENT["dependencies"]
        if isinstance(line, str) and line.startswith(f"{package}=")
    )
    return version


def test_constraints_are_bare_versions():
    # An address or a local version ("2.13.0+cpu") would tie the list to one machine.
    odd = [line for line in PIN_LINES if not re.fullmatch(r"[\w.-]+==[0-9][\w.]*", line)]
    assert odd == []
    assert len(PINS) == len(PIN_LINES), "a package is pinned twice"


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_dependency_is_pinned_within_its_range(requirement):
    pin = PINS.get(canonicalize_name(requirement.name))
    assert pin is not None, f"constraints.txt has no line for {requirement.name}"
    assert requirement.specifier.contains(pin)


def test_the_frameworks_are_tried_with_the_pinned_versions():
    lines = (ROOT / "tests" / "frameworks" / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert len(pins) > 10 and {"torch", "numpy"} <= {*pins}
    assert [
        name for name, version in pins.items() if PINS.get(canonicalize_name(name), version) != version
    ] == []


def test_conda_python_is_one_we_support():
    assert SpecifierSet(PROJECT["requires-python"]).contains(conda_version("python"))


def test_conda_brings_the_pinned_torch():
    assert conda_version("pytorch-cpu") == PINS["torch"]


def test_the_extra_test_brings_all_others_but_the_browser():
    extras = PROJECT["optional-dependencies"]
    brought, seen = {"test"}, set()
    while new := brought - seen:
        seen |= new
        brought |= {extra for name in new for line in extras[name] for extra in own_extras(Requirement(line))}
    assert brought == set(extras) - {"browser"}


def own_extras(requirement):
    return requirement.extras if requirement.name == PROJECT["name"] else set()


def test_conda_leaves_all_other_packages_to_pyproject():
    names = [line.split("=")[0] for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]
    assert sorted(names) == ["pip", "python", "pytorch-cpu"]
    (by_pip,) = (line["pip"] for line in ENVIRONMENT["dependencies"] if isinstance(line, dict))
    assert by_pip == ["-e .[test]", "-c constraints.txt"]
