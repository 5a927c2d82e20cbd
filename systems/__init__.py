"""Detection systems, one file each: ``multitask_mel.py`` is the system ``multitask-mel``."""
