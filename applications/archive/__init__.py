"""The archive: what was tried and what it returned."""

from applications.archive._archive import Archive as Archive
from applications.archive._record import Record as Record
