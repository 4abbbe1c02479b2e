SECRET_KEY = "for development only"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True
INSTALLED_APPS = ["tranship_django", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db"}}
TASKS = {
    "default": {
        "BACKEND": "tranship_django.TranshipBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"url": "sqlite:///tasks.db", "task_options": {"run_timeout": 60}},
    }
}
