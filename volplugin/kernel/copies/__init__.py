"""Copies of backing files at an instant."""
