"""Pretrained encoders by id: where their weights come from, and how they are obtained, checked and read."""
