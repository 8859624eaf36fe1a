from __future__ import annotations

from rapport.cli.serve import ServeSettings
from rapport.common.setting_names import SETTING_NAMES


def test_all_settings_are_listed() -> None:
    """A setting that is new or renamed is so in the list as well."""
    assert ServeSettings.model_fields.keys() == SETTING_NAMES
