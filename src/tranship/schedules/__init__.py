"""Periodic tasks: schedules, where they are kept, and the scheduler that sends their ticks."""

from tranship.schedules._beat import schedules_of_beat
from tranship.schedules._book import Book, Entry, SchedulerSeen
from tranship.schedules._engine import LEADER, Engine, Pace
from tranship.schedules._reports import ScheduleReport, schedule_reports
from tranship.schedules._schedule import SCHEDULE_HEADER, Schedule
from tranship.schedules._scheduler import Scheduler

__all__ = [
    "LEADER",
    "SCHEDULE_HEADER",
    "Book",
    "Engine",
    "Entry",
    "Pace",
    "Schedule",
    "ScheduleReport",
    "Scheduler",
    "SchedulerSeen",
    "schedule_reports",
    "schedules_of_beat",
]
