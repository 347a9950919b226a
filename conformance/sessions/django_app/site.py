"""The WSGI application, with its table for sessions where they are in the database as well."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "conformance.sessions.django_app.settings")
application = get_wsgi_application()

if settings.SESSION_ENGINE.endswith("_db"):
    # One worker makes the table while the others wait.
    with (Path(os.environ["SESSIONS_FOLDER"]) / "migrating").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        call_command("migrate", verbosity=0)
