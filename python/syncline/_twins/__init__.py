"""Twins: classes whose methods are sync, each made of an async class."""
