"""How the program ends: memcached's exit codes, and the error that has one.

Apart from `config`, which takes a while to load: who only asks for the help does not wait for it.
"""

from __future__ import annotations

# memcached's exit codes: EXIT_FAILURE, and three of sysexits.h.
EXIT_FAILURE = 1
EXIT_USAGE = 64
EXIT_NO_USER = 67
EXIT_OS_ERROR = 71

#: A setting, or one with a word that stands in it.
Field = str | tuple[str, str]


class ConfigError(Exception):
    """A setting that cannot be served.

    `message` is for stderr, `exit_code` for the process; `fields` are the settings which are wrong
    or contradict each other, so that who read them from somewhere can name the place. Of a setting
    with several words a field and a word say which.
    """

    def __init__(
        self, message: str, exit_code: int = EXIT_FAILURE, fields: tuple[Field, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.fields = fields

    def at(self, where: str) -> ConfigError:
        """Return the same with the place in front, if there is one to name."""
        if not where:
            return self
        return ConfigError(f"{where}: {self.message}", self.exit_code, self.fields)
