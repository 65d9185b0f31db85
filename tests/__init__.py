"""Tests: each reads as a fact about agentd."""
