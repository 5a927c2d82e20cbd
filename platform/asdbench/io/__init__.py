"""Files, storages and patience with them: everything is written whole or not at all."""
