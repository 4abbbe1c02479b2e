import os
from importlib.util import find_spec

from tranship import FixedBackoff, RetryPolicy

FOLDER = os.environ["SHOP_FOLDER"]
SECRET_KEY = "for tests only"
USE_TZ = True
# Django puts the whole process, which other tests share, into its time zone.
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["tranship_django", "shop", *(["django_tasks"] if not find_spec("django.tasks") else [])]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{FOLDER}/shop.db"}}
BACKEND = "tranship_django.TranshipBackend"
URL = f"sqlite:///{FOLDER}/tasks.db"
TASKS = {
    "default": {"BACKEND": BACKEND, "OPTIONS": {"url": URL}, "QUEUES": ["default", "mail"]},
    "again": {
        "BACKEND": BACKEND,
        "OPTIONS": {
            "url": f"sqlite:///{FOLDER}/again.db",
            "task_options": {"retry": RetryPolicy(max_attempts=2, backoff=FixedBackoff(0))},
        },
    },
    "at-once": {"BACKEND": BACKEND, "OPTIONS": {"url": URL, "enqueue_on_commit": False}, "QUEUES": []},
}
