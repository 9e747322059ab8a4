"""Repair of a damaged database that nobody has open.

    from lamina.engine.repair import repair

    report = repair("data", output="data.repaired")
    for loss in report.losses:
        ...

What can be read is kept as it is: whole segments by a second name, blocks of damaged ones byte for byte.
Modules, in the order of learning: report.py; frames.py and salvage.py, for one segment; logs.py; inventory.py
and arrange.py, where the manifest is lost; rewrite.py, for counts; swap.py, for safety; work.py, which does
it.
"""

from __future__ import annotations

from lamina.engine.repair.logs import WAL_MODES, WalMode
from lamina.engine.repair.report import Loss, RepairError, RepairReport
from lamina.engine.repair.work import repair

__all__ = ["WAL_MODES", "Loss", "RepairError", "RepairReport", "WalMode", "repair"]
