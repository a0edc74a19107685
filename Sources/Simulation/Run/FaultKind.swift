/// The kinds of trouble that a run can do without, for finding out which of them matter.
public enum FaultKind: String, CaseIterable, Sendable {
  case loss, duplication, reordering, delay, partition, crash, powerCut, pause, drift, diskError,
    diskFull, slowDisk, slowApply, transfer, membership, compaction, unreachable, leases, watchers,
    txns, reads, trimming, smallMessages, batching
}
