"""Durable batches: a journal under a session. Nothing lost, nothing paid twice, whatever ends the program."""

from kling_async.batch.batch import Batch
from kling_async.batch.entry import Entry
from kling_async.batch.handle import BatchRun
from kling_async.batch.reading import Reading
from kling_async.batch.states import State, Step
from kling_async.batch.summary import Reconciled, Summary

__all__ = ["Batch", "BatchRun", "Entry", "Reading", "Reconciled", "State", "Step", "Summary"]
