"""What a newcomer calls: the names of the package, its help page, and the example on it."""

import doctest
import os
import pydoc
import subprocess
import sys

import pytest

import dsaml


def test_the_example_on_the_help_page_runs():
    found = doctest.testmod(dsaml)
    assert found.attempted >= 5 and found.failed == 0


def test_the_help_page_names_what_to_call():
    page = pydoc.plain(pydoc.render_doc(dsaml))
    assert page.index("dsaml.load_dataset(") < page.index("PACKAGE CONTENTS")
    assert all(name in page for name in dsaml.__all__)


@pytest.mark.parametrize("name", dsaml.__all__)
def test_every_name_is_there_and_documented(name):
    assert getattr(dsaml, name).__doc__.strip()


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'maml'"):
        dsaml.maml  # noqa: B018


def test_the_package_is_imported_without_torch():
    done = subprocess.run([sys.executable, "-c", "import dsaml, sys; sys.exit('torch' in sys.modules)"], timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize(
    "imports, asked, threads",
    [("dsaml, torch", None, "PASSIVE 2"), ("torch, dsaml", None, "None 1"), ("torch, dsaml", "ACTIVE", "ACTIVE 2")],
)
def test_torch_does_not_wait_by_spinning(imports, asked, threads):
    """The policy is set before torch is loaded; too late for that, one thread is left; what somebody asked for stays."""
    other = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY" and "THREADS" not in name}
    environment = other | {"OMP_NUM_THREADS": "2"} | ({"OMP_WAIT_POLICY": asked} if asked else {})
    code = f"import os, {imports}; print(os.environ.get('OMP_WAIT_POLICY'), torch.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[0] == threads, done.stderr
