"""The TOML file: from text to settings that hold, or to a list of everything that is wrong with it."""

from tidemill.config.last_good import last_good_path, load_last_good, save_last_good
from tidemill.config.loading import BrokenConfigError, Loaded, load
from tidemill.config.sample import init_text
from tidemill.config.secrets import SecretError, resolve_secret
from tidemill.config.settings import (
    ApiSettings,
    DaemonSettings,
    LogFormat,
    LogLevel,
    LogSettings,
    RetentionSettings,
    Settings,
)
from tidemill.config.timezone import machine_zone

__all__ = [
    "ApiSettings",
    "BrokenConfigError",
    "DaemonSettings",
    "Loaded",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "RetentionSettings",
    "SecretError",
    "Settings",
    "init_text",
    "last_good_path",
    "load",
    "load_last_good",
    "machine_zone",
    "resolve_secret",
    "save_last_good",
]
