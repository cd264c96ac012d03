"""What a picture's file says of its settings, where they are not the plain ones."""

import dataclasses

from pm.sample.schedules.base import ScheduleChoice


def schedule_said(choice: ScheduleChoice) -> dict[str, object]:
    """Name of a schedule, and its own settings that are set."""
    own = {field.name: getattr(choice, field.name) for field in dataclasses.fields(choice) if field.name != "name"}
    return {"schedule": choice.name} | {name: value for name, value in own.items() if value is not None}


def interval_said(start: float, end: float) -> dict[str, object]:
    """The guidance interval, unless it is the whole."""
    return {} if (start, end) == (0, 1) else {"guidance_start": start, "guidance_end": end}
