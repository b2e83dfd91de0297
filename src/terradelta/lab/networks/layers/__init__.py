"""Blocks that two or more networks are built of; what only one needs stays in that network's file."""
