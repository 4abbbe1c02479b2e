"""When a periodic task runs: every so often or by a calendar, and what becomes of what was missed. Pure."""

from tranship.timetable._cron import Cron
from tranship.timetable._every import Every
from tranship.timetable._plan import Plan, latest, plan
from tranship.timetable._timetable import MISSED, Missed, Timetable, stamp

__all__ = ["MISSED", "Cron", "Every", "Missed", "Plan", "Timetable", "latest", "plan", "stamp"]
