"""Tests of agents do not wait for the disk."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Stored segments would survive a power cut, which no test here plays; a killed process loses nothing without."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
