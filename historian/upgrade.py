"""Bringing tables to a newer version, by Alembic: imported only when there is something to bring."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine

from nodesets.errors import ConfigurationError, Mistake


def upgrade(database: Engine, migrations: Path) -> None:
    """To the newest version in `migrations`, in one transaction: wholly or not at all.

    Raises ConfigurationError for a database a later version of this program has written, DBAPIError.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    try:
        with database.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigurationError([Mistake("storage", f"{database.url.database}: {error}")]) from error
