"""The ledger: every reply that was ever paid for, and the requests now in flight.

It is a file of SQLite on this machine's disk, or a PostgreSQL database that many hosts share. Both
keep what was committed through kill -9 and a power cut, and both do one writing transaction after
the other.

Before a call is sent its key is claimed and its worst cost reserved, in one transaction with the
check of the caps: no two processes, on whatever hosts, can send the same request or spend the same
dollar. A claim lasts as long as its owner renews it, by the database's clock; a dead owner's claims
are freed, and their reserved cost counts as spent, since the calls may have been charged. The
requests of a provider's batch are claimed by the batch itself, which outlives who sent it.
"""

from caft.teachers.ledger.batches import BatchLedger, SentBatch
from caft.teachers.ledger.database import Place
from caft.teachers.ledger.ledger import LEASE_SECONDS, Claims, Ledger
from caft.teachers.ledger.opening import check_ledger

__all__ = ["LEASE_SECONDS", "BatchLedger", "Claims", "Ledger", "Place", "SentBatch", "check_ledger"]
