"""The table of worker processes."""

from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.platform.database import Base

Device = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)


class Worker(Base):
    """One worker process, which reports regularly that it is alive."""

    __tablename__ = "workers"
    __table_args__ = (CheckConstraint("device IN ('cpu', 'cuda')", name="device"),)

    name: Mapped[str] = mapped_column(primary_key=True, comment="As it signs its claims.")
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    device: Mapped[str] = mapped_column(comment="What its jobs compute on.")
    landlock: Mapped[int] = mapped_column(comment="Version of its kernel's Landlock; 0: none.")
    slots: Mapped[int] = mapped_column(comment="Jobs that it runs at once.")
    version: Mapped[str] = mapped_column(comment="Of Phiscope.")
