"""Hostile clients: for how long they hold others up, and what memory they make a server take."""
