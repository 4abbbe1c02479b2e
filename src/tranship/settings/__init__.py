"""URLs, environment and configuration files, with the origin of every value and no secret in any text."""

from tranship.settings._backend import BackendConfig, CommonOptions, SharedState
from tranship.settings._default import default_broker_url, state_file
from tranship.settings._environment import production_signs
from tranship.settings._fill import convert
from tranship.settings._load import SettingRow, Settings
from tranship.settings._redact import REDACTED, is_secret, redact
from tranship.settings._several import MODES
from tranship.settings._task_routes import TaskRoutes
from tranship.settings._url import BrokerURL

__all__ = [
    "MODES",
    "REDACTED",
    "BackendConfig",
    "BrokerURL",
    "CommonOptions",
    "SettingRow",
    "Settings",
    "SharedState",
    "TaskRoutes",
    "convert",
    "default_broker_url",
    "is_secret",
    "production_signs",
    "redact",
    "state_file",
]
