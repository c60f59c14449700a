"""Settings: frozen dataclasses whose fields say what they may be."""

from applications.settings._factory import (
    call_factory as call_factory,
    is_outside as is_outside,
    load_factory as load_factory,
)
from applications.settings._settings import (
    AtLeast as AtLeast,
    AtMost as AtMost,
    check_settings as check_settings,
    choose_range as choose_range,
    Count as Count,
    flag as flag,
    OptionalCount as OptionalCount,
    OptionalLevels as OptionalLevels,
    OptionalRate as OptionalRate,
    Positive as Positive,
    Rate as Rate,
    Seed as Seed,
    settings_from_json as settings_from_json,
    settings_to_json as settings_to_json,
    Steps as Steps,
    UserError as UserError,
    Widths as Widths,
)
