"""Small suites for what plugins bring beside backends: inherit one, and give it a fixture.

::

    class TestMine(ClassifierSuite):
        @pytest.fixture
        def classifier(self):
            return classify

        @pytest.fixture
        def known(self):
            return [Throttled("slow down")]

A result store has :class:`~tranship.testing.suites.ResultStoreSuite`, which takes a harness.
"""

from tranship.testing.suites.plugins.classifier import ClassifierSuite
from tranship.testing.suites.plugins.codec import CodecSuite
from tranship.testing.suites.plugins.command import CommandSuite
from tranship.testing.suites.plugins.middleware import MiddlewareSuite

__all__ = ["ClassifierSuite", "CodecSuite", "CommandSuite", "MiddlewareSuite"]
