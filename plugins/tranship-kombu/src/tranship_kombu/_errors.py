"""What kombu, and the libraries behind it, raise, as errors of ours."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote

from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    InvalidOptionError,
    MessageTooLarge,
    PluginError,
    StorageFull,
    TranshipError,
)
from tranship.settings import BrokerURL

__all__ = ["Explainer", "missing"]

_BUGS: Final = (AttributeError, NameError, AssertionError, NotImplementedError)
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED_BY_NAME: Final = frozenset(
    {"AccessRefused", "NotAllowed", "PreconditionFailed", "ResourceLocked", "InvalidPath"}  # AMQP
    | {"AuthenticationError", "AuthenticationWrongNumberOfArgsError", "NoPermissionError"}  # redis-py
    | {"NoCredentialsError", "PartialCredentialsError", "NoRegionError", "ProfileNotFound"}  # botocore
    | {"AccessDeniedQueueException", "UndefinedQueueException", "InvalidQueueException"}  # kombu on SQS
    | {"ClientAuthenticationError", "PermissionDenied", "Unauthenticated", "Forbidden"}  # Azure, Google
    | {"ProgrammingError", "InvalidPassword", "InvalidAuthorizationSpecification", "NoAuthError", "AuthFailedError"}
)
"""Names of exceptions that mean: no, and not later either. By name, as most of their libraries are not installed."""
_DENIALS_OF_AWS: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "SignatureDoesNotMatch", "AuthFailure"}
    | {"UnrecognizedClientException", "MissingAuthenticationToken", "ExpiredToken", "OptInRequired"}
    | {"InvalidAccessKeyId", "InvalidParameterValue"}
)
_TOO_LARGE: Final = ("message must be shorter", "exceeds the maximum", "too large", "is larger than")
_WRONG_SETTINGS: Final = frozenset({"ArgumentError", "NoSuchModuleError", "ParamValidationError"})
_FULL_DATABASE: Final = ("disk is full", "no space left", "could not extend file")
_CLOSED_DATABASE: Final = ("readonly database", "permission denied", "unable to open database file", "not a database")
_LIBRARIES: Final = {
    "sqlalchemy": "sqlalchemy>=2",
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "pg8000": "pg8000",
    "MySQLdb": "mysqlclient",
    "pymysql": "pymysql",
    "mysql": "mysql-connector-python",
    "mariadb": "mariadb",
    "oracledb": "oracledb",
    "cx_Oracle": "oracledb",
    "pyodbc": "pyodbc",
    "pymssql": "pymssql",
    "sqlalchemy_cockroachdb": "sqlalchemy-cockroachdb",
}
"""Drivers of databases by what is imported: what to install."""


def missing(scheme: str, install: str, error: BaseException) -> PluginError:
    """Return the error for a library that is not installed.

    Args:
        scheme: of the URL that needs it.
        install: what brings it, unless the error names a database's driver.
        error: what importing it raised.
    """
    name = (getattr(error, "name", None) or "").partition(".")[0]
    wanted = " ".join(f"'{one}'" if "[" in one or ">" in one else one for one in _LIBRARIES.get(name, install).split())
    return PluginError(f"{scheme}:// needs a library that is not installed ({error}): pip install {wanted}")


class Explainer:
    """Makes one of our errors of a native one, for one place; see :data:`tranship.driver.Classify`.

    Args:
        url: of the broker.
        install: what brings the library that it needs.
        kinds: returns the library's own errors, once it is loaded.
    """

    def __init__(self, url: BrokerURL, install: str, kinds: Callable[[], tuple[type[BaseException], ...]]) -> None:
        self._url, self._install, self._kinds = url, install, kinds

    def __call__(self, error: Exception) -> TranshipError | None:
        """Return our error; None: it is a bug."""
        for one in _chain(error):
            if (made := self._known(one)) is not None:
                return made
        if isinstance(error, _BUGS) and not isinstance(error, self._kinds()):
            return None
        # Whatever a library raises that is not known: it may pass.
        return BrokerUnreachable(self._said(error))

    def _known(self, error: BaseException) -> TranshipError | None:
        name, text = type(error).__name__, str(error).lower()
        if isinstance(error, ImportError):
            return missing(self._url.scheme, self._install, error)
        if isinstance(error, OSError) and (error.errno in _FULL or error.errno in _DENIED):
            return (StorageFull if error.errno in _FULL else BrokerRefused)(self._said(error))
        if (code := _aws_code(error)) is not None:
            return self._of_aws(error, code, text)
        return self._named(error, name, text)

    def _named(self, error: BaseException, name: str, text: str) -> TranshipError | None:
        if name in _WRONG_SETTINGS:
            return InvalidOptionError(f"{self._url} is not understood: {self._said(error)}")
        if name in _REFUSED_BY_NAME:
            return BrokerRefused(self._said(error))
        return self._of_a_database(error, text) if name in ("OperationalError", "DatabaseError") else None

    def _of_aws(self, error: BaseException, code: str, text: str) -> TranshipError:
        if any(words in text for words in _TOO_LARGE):
            return MessageTooLarge(f"{self._said(error)}; pass a reference instead of the data")
        return (BrokerRefused if code in _DENIALS_OF_AWS else BrokerUnreachable)(self._said(error))

    def _of_a_database(self, error: BaseException, text: str) -> TranshipError | None:
        if any(words in text for words in _FULL_DATABASE):
            return StorageFull(self._said(error))
        refused = any(words in text for words in (*_CLOSED_DATABASE, "authentication failed", "access denied"))
        return BrokerRefused(self._said(error)) if refused else None

    def _said(self, error: BaseException) -> str:
        text = f"{type(error).__name__}: {error}".partition("\n")[0]
        password = self._url.password
        for secret in (password, quote(password, safe="")) if password else ():
            text = text.replace(secret, "***")
        return text


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from: kombu wraps some."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _aws_code(error: BaseException) -> str | None:
    answer: Any = getattr(error, "response", None)
    found = answer.get("Error") if isinstance(answer, dict) else None
    return str(found.get("Code")) if isinstance(found, dict) else None
